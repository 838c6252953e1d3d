//! Tries connections to others.

use std::path::{Path, PathBuf};

use dimse::{Remote, Timers};
use encoding::hl7_charset::Hl7Charset;
use hl7::MllpDestination;

use crate::args::{RemoteFlags, SendCommand};
use crate::output::{Failure, line};

/// Files sent with one association.
const FILES_AT_ONCE: usize = 100;

pub(crate) async fn send(command: SendCommand) -> Result<(), Failure> {
    match command {
        SendCommand::Echo { remote } => {
            let peer = peer(&remote);
            peer.echo().await.map_err(|error| Failure::from_error("no answer", &error))?;
            line(format_args!("{} at {} is there", remote.called, remote.address));
            Ok(())
        }
        SendCommand::Dicom { remote, files } => {
            let sent = send_files(&peer(&remote), &files).await?;
            line(format_args!("{sent} files were taken"));
            Ok(())
        }
        SendCommand::Hl7 { address, files } => {
            let peer = MllpDestination::new(address, Hl7Charset::Utf8);
            for file in files {
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| Failure::from_error(&file.display().to_string(), &error))?;
                let message = text.replace("\r\n", "\r").replace('\n', "\r");
                let answer = peer.exchange(message.trim_start_matches('\u{feff}')).await;
                let answer = answer.map_err(|error| Failure::from_error("no answer", &error))?;
                let msa = answer.segment("MSA").map(|it| answer.value(it, 1, 1));
                line(format_args!("{}: {}", file.display(), msa.unwrap_or_default()));
            }
            Ok(())
        }
    }
}

fn peer(flags: &RemoteFlags) -> Remote {
    Remote {
        address: flags.address.clone(),
        called: flags.called.clone(),
        calling: flags.calling.clone(),
        timers: Timers::default(),
    }
}

/// Sends every DICOM file among `paths` and below them. Other files are passed over.
pub(crate) async fn send_files(peer: &Remote, paths: &[PathBuf]) -> Result<usize, Failure> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files).map_err(|error| {
            Failure::from_error(&format!("cannot read `{}`", path.display()), &error)
        })?;
    }
    let mut sent = 0;
    for batch in files.chunks(FILES_AT_ONCE) {
        let mut contents = Vec::new();
        for path in batch {
            let read = std::fs::read(path).map(sendable);
            let content = read.map_err(|error| {
                Failure::from_error(&format!("cannot read `{}`", path.display()), &error)
            })?;
            contents.extend(content);
        }
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        peer.store(&contents).await.map_err(|error| Failure::from_error("not taken", &error))?;
        sent += contents.len();
    }
    Ok(sent)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|it| it.map(|it| it.path())).collect::<Result<_, _>>()?;
        entries.sort();
        entries.iter().try_for_each(|it| collect(it, files))
    } else {
        files.push(path.to_owned());
        Ok(())
    }
}

/// The file, if it is one that can be sent as it is: DICOM with File Meta Information.
fn sendable(file: Vec<u8>) -> Option<Vec<u8>> {
    encoding::file_meta::split(&file).is_some().then_some(file)
}
