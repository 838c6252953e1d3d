//! `isocenter send`: tries connections to other systems.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use dimse::{Remote, Timers};
use domain::AeTitle;
use encoding::hl7::charset::Hl7Charset;
use hl7::MllpDestination;

use super::Execute;
use crate::output::{Failure, line};

/// The greatest number of files sent over one association.
const FILES_PER_ASSOCIATION: usize = 100;

/// Sends something to another system, to try the connection.
#[derive(Args)]
pub(crate) struct Send {
    #[command(subcommand)]
    command: SendCommand,
}

#[derive(Subcommand)]
enum SendCommand {
    /// Asks whether a DICOM peer answers (C-ECHO).
    Echo {
        #[command(flatten)]
        peer: PeerArgs,
    },
    /// Sends DICOM files (C-STORE).
    Dicom {
        #[command(flatten)]
        peer: PeerArgs,
        /// Files or folders.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Sends HL7 messages and shows the answers.
    Hl7 {
        /// Host and port.
        address: String,
        /// Files with one message each.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// A DICOM peer.
#[derive(Args)]
struct PeerArgs {
    /// Host and port.
    address: String,
    /// The AE title of the peer.
    #[arg(long, default_value = "ANY-SCP")]
    called: AeTitle,
    /// Our AE title.
    #[arg(long, default_value = "ISOCENTER")]
    calling: AeTitle,
}

impl PeerArgs {
    fn remote(self) -> Remote {
        let Self { address, called, calling } = self;
        Remote { address, called, calling, timers: Timers::default() }
    }
}

impl Execute for Send {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            SendCommand::Echo { peer } => {
                let remote = peer.remote();
                remote.echo().await.map_err(|error| Failure::from_error("no answer", &error))?;
                line(format_args!("{} at {} answers", remote.called, remote.address));
            }
            SendCommand::Dicom { peer, files } => {
                let sent = send_files(&peer.remote(), &files).await?;
                line(format_args!("{sent} files were accepted"));
            }
            SendCommand::Hl7 { address, files } => send_messages(address, &files).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn send_messages(address: String, files: &[PathBuf]) -> Result<(), Failure> {
    let peer = MllpDestination::new(address, Hl7Charset::Utf8);
    for file in files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::from_error(&file.display().to_string(), &error))?;
        let answer = peer.exchange(&as_segments(&text)).await;
        let answer = answer.map_err(|error| Failure::from_error("no answer", &error))?;
        let code = answer.segment("MSA").map(|it| answer.value(it, 1, 1));
        line(format_args!("{}: {}", file.display(), code.unwrap_or_default()));
    }
    Ok(())
}

/// A text file as an HL7 message: without byte order mark, segments ended by a carriage return.
fn as_segments(text: &str) -> String {
    text.trim_start_matches('\u{feff}').replace("\r\n", "\r").replace('\n', "\r")
}

/// Sends every DICOM file among `paths` and below them, and returns how many. Other files are
/// skipped.
pub(super) async fn send_files(peer: &Remote, paths: &[PathBuf]) -> Result<usize, Failure> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files).map_err(|error| unreadable(path, &error))?;
    }
    let mut sent = 0;
    for batch in files.chunks(FILES_PER_ASSOCIATION) {
        let mut contents = Vec::new();
        for path in batch {
            let file = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
            contents.extend(sendable(file));
        }
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        peer.store(&contents).await.map_err(|error| Failure::from_error("not accepted", &error))?;
        sent += contents.len();
    }
    Ok(sent)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::from_error(&format!("cannot read `{}`", path.display()), error)
}

/// Adds a file, or all files of a folder and its subfolders in alphabetical order.
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

/// The file, if it can be sent as it is: DICOM with File Meta Information.
fn sendable(file: Vec<u8>) -> Option<Vec<u8>> {
    encoding::dicom::file_meta::split(&file).is_some().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_file_becomes_segments() {
        assert_eq!(as_segments("\u{feff}MSH|a\r\nPID|b\n"), "MSH|a\rPID|b\r");
        assert_eq!(as_segments("MSH|a\rPID|b"), "MSH|a\rPID|b");
    }

    #[test]
    fn a_file_that_is_no_dicom_is_skipped() {
        assert_eq!(sendable(b"no DICOM".to_vec()), None);
    }

    #[test]
    fn folders_are_sent_in_alphabetical_order() {
        let folder = std::env::temp_dir().join(format!("isocenter-send-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(folder.join("b")).unwrap();
        for name in ["c", "b/2", "b/1", "a"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let mut files = Vec::new();
        collect(&folder, &mut files).unwrap();
        let expected: Vec<PathBuf> =
            ["a", "b/1", "b/2", "c"].iter().map(|it| folder.join(it)).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(files, expected);
    }
}
