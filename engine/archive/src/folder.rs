//! A folder as a destination: results as files, for systems that read files, and for trials.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{fs, process};

use async_trait::async_trait;
use contracts::{Destination, Output, ProbeError, SendError, Sent};
use domain::OutputKind;

/// A folder that accepts outputs of every kind as files:
/// `<run>/<kind>-<number>.<extension of the format>`, numbered from one within each kind.
pub struct FolderDestination {
    folder: PathBuf,
}

/// A file to write.
struct OutputFile {
    name: String,
    bytes: Vec<u8>,
}

impl OutputFile {
    fn new(output: &Output, number: usize) -> Self {
        let extension = output.kind.format().file_extension();
        let name = format!("{}-{number}.{extension}", output.kind.name());
        Self { name, bytes: output.bytes.clone() }
    }
}

impl FolderDestination {
    /// A destination in `folder`, which is created with the first result.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    async fn write(&self, run: &str, files: Vec<OutputFile>) -> Result<Sent, SendError> {
        let folder = self.folder.join(run);
        let written = tokio::task::spawn_blocking(move || write_all(&folder, &files)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => Ok(Sent::Acknowledged),
            Err(error) => Err(SendError::Retryable(error.to_string())),
        }
    }
}

#[async_trait]
impl Destination for FolderDestination {
    fn takes(&self, _: OutputKind) -> bool {
        true
    }

    async fn probe(&self) -> Result<Option<String>, ProbeError> {
        let folder = self.folder.clone();
        let tried = tokio::task::spawn_blocking(move || write_and_remove(&folder)).await;
        tried.map_err(io::Error::other).flatten().map_err(|error| ProbeError {
            message: format!("`{}` cannot be written", self.folder.display()),
            source: Box::new(error),
        })?;
        Ok(Some(format!("{} can be written", self.folder.display())))
    }

    async fn send_part(
        &self,
        run: &str,
        _: &str,
        output: &Output,
        number: usize,
    ) -> Result<Sent, SendError> {
        self.write(run, vec![OutputFile::new(output, number + 1)]).await
    }

    async fn send(&self, run: &str, _: &str, outputs: &[Output]) -> Result<Sent, SendError> {
        let mut counts: BTreeMap<OutputKind, usize> = BTreeMap::new();
        let mut files = Vec::new();
        for output in outputs {
            let count = counts.entry(output.kind).or_default();
            *count += 1;
            files.push(OutputFile::new(output, *count));
        }
        self.write(run, files).await
    }
}

fn write_all(folder: &Path, files: &[OutputFile]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    files.iter().try_for_each(|file| replace(&folder.join(&file.name), &file.bytes))
}

/// Writes a file under another name first: a reader of the folder never sees half a file.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("part");
    let mut file = fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

/// Proves that the folder can be written.
fn write_and_remove(folder: &Path) -> io::Result<()> {
    let probe = folder.join(format!(".isocenter-test-{}", process::id()));
    fs::create_dir_all(folder)?;
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(kind: OutputKind) -> Output {
        Output {
            kind,
            id: "1".to_owned(),
            series: String::new(),
            sop_class: String::new(),
            bytes: kind.name().into(),
            stored: None,
        }
    }

    #[tokio::test]
    async fn every_kind_is_written_under_its_name_and_number() {
        let folder =
            std::env::temp_dir().join(format!("isocenter-folder-{}", uuid::Uuid::now_v7()));
        let destination = FolderDestination::new(folder.clone());
        let outputs = [OutputKind::Seg, OutputKind::Seg, OutputKind::Oru, OutputKind::Fhir];
        assert!(outputs.iter().all(|kind| destination.takes(*kind)));
        destination.send("run", "", &outputs.map(output)).await.unwrap();
        destination.send_part("run", "", &output(OutputKind::Images), 1).await.unwrap();
        let mut names: Vec<String> = fs::read_dir(folder.join("run"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["fhir-1.json", "images-2.dcm", "oru-1.hl7", "seg-1.dcm", "seg-2.dcm"]);
        assert_eq!(fs::read(folder.join("run/oru-1.hl7")).unwrap(), b"oru");
        fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_fails_its_test() {
        let file = std::env::temp_dir().join(format!("isocenter-file-{}", uuid::Uuid::now_v7()));
        fs::write(&file, b"").unwrap();
        let failure = FolderDestination::new(file.join("below")).probe().await.unwrap_err();
        assert!(failure.message.contains("cannot be written"), "{failure}");
        fs::remove_file(file).unwrap();
    }
}
