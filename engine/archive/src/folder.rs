use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use contracts::{Destination, DestinationKind, Output, OutputKind, SendError, Sent};

/// A folder that takes reports as files: `<run>/<kind>-<n>.dcm`, `.hl7` or `.json`.
pub struct FolderDestination {
    folder: PathBuf,
}

impl FolderDestination {
    /// A destination in `folder`, which is made when the first report comes.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

impl FolderDestination {
    async fn write(&self, run: &str, files: Vec<(String, Vec<u8>)>) -> Result<Sent, SendError> {
        let folder = self.folder.join(run);
        let write = move || {
            fs::create_dir_all(&folder)?;
            files.iter().try_for_each(|(name, bytes)| replace(&folder.join(name), bytes))
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other);
        let written = written.and_then(|it| it).map(|()| Sent::Acknowledged);
        written.map_err(|it| SendError::Retryable(it.to_string()))
    }
}

const fn extension(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::Oru | OutputKind::Mdm => "hl7",
        OutputKind::Fhir | OutputKind::Json => "json",
        _ => "dcm",
    }
}

#[async_trait]
impl Destination for FolderDestination {
    fn kind(&self) -> DestinationKind {
        DestinationKind::Folder
    }

    async fn send_part(
        &self,
        run: &str,
        _: &str,
        output: &Output,
        number: usize,
    ) -> Result<Sent, SendError> {
        let name = format!("{}-{}.{}", output.kind.name(), number + 1, extension(output.kind));
        self.write(run, vec![(name, output.bytes.clone())]).await
    }

    async fn send(&self, run: &str, _: &str, outputs: &[Output]) -> Result<Sent, SendError> {
        let mut counts: BTreeMap<OutputKind, usize> = BTreeMap::new();
        let mut files = Vec::new();
        for output in outputs {
            let count = counts.entry(output.kind).or_default();
            *count += 1;
            let name = format!("{}-{count}.{}", output.kind.name(), extension(output.kind));
            files.push((name, output.bytes.clone()));
        }
        self.write(run, files).await
    }
}

/// Who watches the folder never sees half a file.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("part");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
