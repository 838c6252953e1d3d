//! The checkpoints that a site has imported, each in a folder of its own with a model card. Models
//! that read print on pages are beside them (`page_reader`).
//!
//! The card records what identifies the model (digests), what it needs (memory), where it is from,
//! its licence, and who has released it for clinical use. An import copies or links the files, and
//! becomes visible only once it is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use citrus_v::tensor_shapes::tensor_shapes;
use citrus_v::{CheckpointIndex, Config, ConfigError, WeightsError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The files beside the weights that belong to a checkpoint, as far as they are there.
const COMPANIONS: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "LICENSE",
];

/// The name of the model card.
const CARD_FILE: &str = "card.json";

/// The name of the folder with the files of the checkpoint.
const CHECKPOINT_FOLDER: &str = "checkpoint";

/// What a model is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// It answers questions about texts and pictures.
    #[default]
    Language,
    /// It reads print on pages, for plugins.
    PageReader,
}

/// The model card: what is known of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The name that the site has given the model.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub kind: ModelKind,
    /// SHA-256 over names and digests of all its files: identifies the model.
    pub digest: String,
    /// SHA-256 of each file.
    pub files: BTreeMap<String, String>,
    /// The number of parameters.
    pub parameters: u64,
    /// The memory it needs on a CPU, in bytes.
    #[serde(default)]
    pub cpu_memory_bytes: u64,
    /// The size of its weights on disk, in bytes.
    pub bytes: u64,
    /// The number types of its weights.
    pub number_types: Vec<String>,
    /// Whether it segments: it has a `[SEG]` projector and SAM 2.
    pub can_segment: bool,
    /// Whether the weights of its language model are quantized to eight bits when it is loaded.
    #[serde(default)]
    pub is_eight_bit: bool,
    /// The tensors of the language model that cannot be quantized.
    #[serde(default)]
    pub unquantized_tensors: Vec<String>,
    /// Where it is from, as the person who imported it states.
    pub source: String,
    /// Its licence, as the person who imported it states.
    pub licence: String,
    /// Whose work it is, where the licence demands to say so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attribution: String,
    /// The person of the site who has released it for clinical use; none: it is not released.
    pub clinical_use_decided_by: Option<String>,
}

impl ModelCard {
    /// The warning that accompanies every response; none if the model is released for clinical use.
    /// What a page reader reads is compared with another reading, or is for a person to check.
    pub const fn warning(&self) -> Option<&'static str> {
        match (self.kind, &self.clinical_use_decided_by) {
            (ModelKind::Language, None) => Some("not for clinical use"),
            (ModelKind::Language, Some(_)) | (ModelKind::PageReader, _) => None,
        }
    }

    /// Compares all files of the checkpoint with the digests of this card.
    ///
    /// # Errors
    ///
    /// Returns the first file that differs, is missing, or was added.
    pub fn verify(&self, checkpoint: &Path) -> Result<(), StoreError> {
        // An additional file of weights would be loaded, too.
        for entry in fs::read_dir(checkpoint).map_err(io_error(checkpoint))? {
            let entry = entry.map_err(io_error(checkpoint))?;
            let has_weights = entry.path().extension().is_some_and(|it| it == "safetensors");
            let file = entry.file_name().to_string_lossy().into_owned();
            if has_weights && !self.files.contains_key(&file) {
                return Err(StoreError::Changed { name: self.name.clone(), file });
            }
        }
        for (file, digest) in &self.files {
            let path = checkpoint.join(file);
            if digest_of(&path).map_err(io_error(&path))? != *digest {
                return Err(StoreError::Changed { name: self.name.clone(), file: file.clone() });
            }
        }
        Ok(())
    }
}

/// An import of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import<'a> {
    /// The folder of the checkpoint.
    pub from: &'a Path,
    /// The name for the model: lower-case letters, digits, dashes and dots.
    pub name: &'a str,
    /// Whether its files are linked instead of copied.
    pub is_linked: bool,
    /// Whether the weights of its language model are quantized to eight bits when it is loaded.
    pub is_eight_bit: bool,
    /// Where it is from.
    pub source: &'a str,
    /// Its licence.
    pub licence: &'a str,
    /// The person who has released it for clinical use.
    pub clinical_use_decided_by: Option<&'a str>,
}

/// Why a model cannot be imported or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The name has characters that are not allowed.
    #[error("`{0}`: use small letters, digits, dashes and dots")]
    Name(String),
    /// Another model has this name.
    #[error("there is a model `{0}` already, with other files or bits: give this one another name")]
    Taken(String),
    /// There is no such model.
    #[error("there is no model `{name}`; there are: {there}")]
    Missing {
        /// The name that was asked for.
        name: String,
        /// The names of all models.
        there: String,
    },
    /// The model is not for questions.
    #[error("`{0}` reads print on pages: it answers no questions")]
    NoLanguageModel(String),
    /// A file differs from what was imported.
    #[error("`{file}` of the model `{name}` is not what was imported: import it again")]
    Changed {
        /// The model.
        name: String,
        /// The file.
        file: String,
    },
    /// `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// `tokenizer.json` is missing.
    #[error("`{}` is missing: copy it from where the weights are from", path.display())]
    NoTokenizer {
        /// Where it should be.
        path: PathBuf,
    },
    /// A card cannot be read or written.
    #[error("`{}` is no card of a model: {reason}", path.display())]
    BadCard {
        /// The card.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// The models of a site, in a folder.
pub struct ModelStore {
    folder: PathBuf,
}

impl ModelStore {
    /// The store in a folder, which need not exist yet.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Imports a checkpoint whose headers fit its configuration.
    ///
    /// Importing the same files again changes only what people state about the model: source,
    /// licence, and its release for clinical use.
    ///
    /// # Errors
    ///
    /// Returns what does not fit, or the file that cannot be used.
    pub fn import(&self, import: &Import<'_>) -> Result<ModelCard, StoreError> {
        if !is_valid_name(import.name) {
            return Err(StoreError::Name(import.name.to_owned()));
        }
        let found = FoundCheckpoint::in_folder(import.from)?;
        let folder = self.folder.join(import.name);
        if folder.join(CARD_FILE).exists() {
            return self.update_card(&folder, found.card(import)?);
        }
        // Prepared beside its folder and renamed: an incomplete import is never visible.
        let partial = self.folder.join(format!(".{}.part", import.name));
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(io_error(&partial))?;
        }
        let files = partial.join(CHECKPOINT_FOLDER);
        fs::create_dir_all(&files).map_err(io_error(&files))?;
        for source in found.files {
            let to = files.join(source.file_name().unwrap_or_default());
            let transferred = if import.is_linked {
                std::os::unix::fs::symlink(&source, &to)
            } else {
                fs::copy(&source, &to).map(drop)
            };
            transferred.map_err(io_error(&to))?;
        }
        // The digests are those of the imported files, not of the source.
        let card = FoundCheckpoint::in_folder(&files)?.card(import)?;
        write_card(&partial, &card)?;
        fs::rename(&partial, &folder).map_err(io_error(&folder))?;
        Ok(card)
    }

    /// Replaces the card of a model that was imported before, if the files are the same.
    fn update_card(&self, folder: &Path, card: ModelCard) -> Result<ModelCard, StoreError> {
        let existing = self.card(&card.name)?;
        let is_same_model =
            existing.digest == card.digest && existing.is_eight_bit == card.is_eight_bit;
        if !is_same_model {
            return Err(StoreError::Taken(card.name));
        }
        if existing != card {
            write_card(folder, &card)?;
        }
        Ok(card)
    }

    /// All models, by name.
    ///
    /// # Errors
    ///
    /// Fails if a card cannot be read.
    pub fn list(&self) -> Result<Vec<ModelCard>, StoreError> {
        let mut cards = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(cards),
            Err(error) => return Err(io_error(&self.folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(io_error(&self.folder))?;
            let path = entry.path().join(CARD_FILE);
            let is_complete = !entry.file_name().to_string_lossy().starts_with('.');
            if is_complete && path.exists() {
                cards.push(read_card(&path)?);
            }
        }
        cards.sort_by(|a: &ModelCard, b| a.name.cmp(&b.name));
        Ok(cards)
    }

    /// The card of a model.
    ///
    /// # Errors
    ///
    /// Fails if there is no model of this name.
    pub fn card(&self, name: &str) -> Result<ModelCard, StoreError> {
        let path = self.folder.join(name).join(CARD_FILE);
        if !name.contains('/') && path.exists() {
            return read_card(&path);
        }
        let there: Vec<String> = self.list()?.into_iter().map(|it| it.name).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Err(StoreError::Missing { name: name.to_owned(), there })
    }

    /// The card of a model that answers questions.
    ///
    /// # Errors
    ///
    /// Fails if there is no model of this name, or if it is another kind of model.
    pub fn language_card(&self, name: &str) -> Result<ModelCard, StoreError> {
        let card = self.card(name)?;
        match card.kind {
            ModelKind::Language => Ok(card),
            ModelKind::PageReader => Err(StoreError::NoLanguageModel(card.name)),
        }
    }

    /// The folder with the files of a model.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.join(name).join(CHECKPOINT_FOLDER)
    }

    /// Compares all files of a model with its card, and returns the card.
    ///
    /// # Errors
    ///
    /// Fails if a file differs from what was imported.
    pub fn verify(&self, name: &str) -> Result<ModelCard, StoreError> {
        let card = self.card(name)?;
        card.verify(&self.checkpoint(name))?;
        Ok(card)
    }
}

/// Whether a name can be a folder and stands out from hidden files.
fn is_valid_name(name: &str) -> bool {
    let is_allowed =
        |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-' || it == '.';
    !name.is_empty() && !name.starts_with('.') && name.chars().all(is_allowed)
}

/// A checkpoint whose headers fit its configuration.
struct FoundCheckpoint {
    config: Config,
    index: CheckpointIndex,
    /// All files that belong to it.
    files: Vec<PathBuf>,
}

impl FoundCheckpoint {
    fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        let folder = folder.canonicalize().map_err(io_error(folder))?;
        let path = folder.join("config.json");
        let config = Config::parse(&fs::read_to_string(&path).map_err(io_error(&path))?)?;
        let index = CheckpointIndex::read(&folder)?;
        index.check(&tensor_shapes(&config))?;
        let tokenizer = folder.join("tokenizer.json");
        if !tokenizer.exists() {
            return Err(StoreError::NoTokenizer { path: tokenizer });
        }
        let companions = COMPANIONS.iter().map(|it| folder.join(it)).filter(|it| it.exists());
        let files = index.files.iter().cloned().chain(companions).collect();
        Ok(Self { config, index, files })
    }

    /// Reads all files and writes the card.
    fn card(&self, import: &Import<'_>) -> Result<ModelCard, StoreError> {
        let mut files = BTreeMap::new();
        for path in &self.files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, digest_of(path).map_err(io_error(path))?);
        }
        let number_types: BTreeSet<&str> =
            self.index.tensors.values().map(|it| it.number_type.name()).collect();
        let unquantizable =
            if import.is_eight_bit { self.index.unquantizable() } else { Vec::new() };
        Ok(ModelCard {
            name: import.name.to_owned(),
            kind: ModelKind::Language,
            digest: digest_of_files(&files),
            files,
            parameters: self.index.parameters(),
            cpu_memory_bytes: self.index.cpu_memory_bytes(import.is_eight_bit),
            bytes: self.index.disk_bytes(),
            number_types: number_types.into_iter().map(str::to_owned).collect(),
            can_segment: self.config.seg.is_some(),
            is_eight_bit: import.is_eight_bit,
            unquantized_tensors: unquantizable,
            source: import.source.to_owned(),
            licence: import.licence.to_owned(),
            attribution: String::new(),
            clinical_use_decided_by: import.clinical_use_decided_by.map(str::to_owned),
        })
    }
}

/// SHA-256 over names and digests of files, in hexadecimal digits.
pub(crate) fn digest_of_files(files: &BTreeMap<String, String>) -> String {
    let lines = files.iter().map(|(name, digest)| format!("{digest}  {name}\n"));
    hex::encode(Sha256::digest(lines.collect::<String>()))
}

/// Writes a card into the folder of a model, replacing the card that may be there.
pub(crate) fn write_card(folder: &Path, card: &ModelCard) -> Result<(), StoreError> {
    let path = folder.join(CARD_FILE);
    let partial = folder.join(format!("{CARD_FILE}.part"));
    let text = serde_json::to_string_pretty(card).map_err(|it| bad_card(&path, &it))?;
    fs::write(&partial, text + "\n").map_err(io_error(&partial))?;
    fs::rename(&partial, &path).map_err(io_error(&path))
}

fn read_card(path: &Path) -> Result<ModelCard, StoreError> {
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    serde_json::from_str(&text).map_err(|it| bad_card(path, &it))
}

fn bad_card(path: &Path, error: &serde_json::Error) -> StoreError {
    StoreError::BadCard { path: path.to_owned(), reason: error.to_string() }
}

/// SHA-256 of a file, in hexadecimal digits.
fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
