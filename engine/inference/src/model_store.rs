//! Checkpoints that a site has taken in.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use citrus_v::layout::layout;
use citrus_v::plan::Kind;
use citrus_v::{Config, ConfigError, Plan, WeightsError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Files beside the weights that belong to a checkpoint.
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

/// The file with what is known of a model.
const CARD: &str = "card.json";

/// The folder with the files of its checkpoint.
const CHECKPOINT: &str = "checkpoint";

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    /// What the site calls it.
    pub name: String,
    /// SHA-256 over names and digests of all its files.
    pub digest: String,
    /// SHA-256 of each file.
    pub files: BTreeMap<String, String>,
    /// How many numbers it has.
    pub parameters: u64,
    /// Bytes it takes in memory on a CPU; nought on cards of before it was known.
    #[serde(default)]
    pub bytes_on_cpu: u64,
    /// Bytes of its weights, as they lie on the disk.
    pub bytes: u64,
    /// What kinds of numbers they are.
    pub kinds: Vec<String>,
    /// Whether it draws masks.
    pub draws_masks: bool,
    /// Whether the products of its language model are computed in eight bits.
    #[serde(default)]
    pub is_eight_bit: bool,
    /// Tensors that stay as they are beside those in eight bits.
    #[serde(default)]
    pub not_in_eight_bits: Vec<String>,
    /// Where it is from, as whoever took it in says.
    pub source: String,
    /// Its licence, as whoever took it in says.
    pub licence: String,
    /// Who of the site has decided that it may be used for patients. Nobody: it may not.
    pub clinical_use_decided_by: Option<String>,
}

impl ModelCard {
    /// What has to be said with everything the model says; nothing, if the site uses it for patients.
    pub const fn warning(&self) -> Option<&'static str> {
        match self.clinical_use_decided_by {
            Some(_) => None,
            None => Some("not for clinical use"),
        }
    }

    /// Reads all files of its checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if one is not what was taken in.
    pub fn verify(&self, checkpoint: &Path) -> Result<(), StoreError> {
        // One more file of weights would be read, too.
        let entries = fs::read_dir(checkpoint).into_iter().flatten().flatten();
        for entry in
            entries.filter(|it| it.path().extension().is_some_and(|it| it == "safetensors"))
        {
            let file = entry.file_name().to_string_lossy().into_owned();
            if !self.files.contains_key(&file) {
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

/// How a checkpoint is taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import<'a> {
    /// The folder it lies in.
    pub from: &'a Path,
    /// What to call it: small letters, digits, dashes and dots.
    pub name: &'a str,
    /// Whether its files are linked to where they lie, rather than copied.
    pub is_linked: bool,
    /// Whether to compute in eight bits.
    pub is_eight_bit: bool,
    /// Where it is from.
    pub source: &'a str,
    /// Its licence.
    pub licence: &'a str,
    /// Who has decided that it may be used for patients.
    pub clinical_use_decided_by: Option<&'a str>,
}

/// Why a model cannot be taken in or had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A name that cannot be one.
    #[error("`{0}`: use small letters, digits, dashes and dots")]
    Name(String),
    /// The name is taken.
    #[error("there is a model `{0}` already, with other files or bits: give this one another name")]
    Taken(String),
    /// There is no such model.
    #[error("there is no model `{name}`; there are: {there}")]
    Missing {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// A file has changed since it was taken in.
    #[error("`{file}` of the model `{name}` is not what was taken in: import it again")]
    Changed {
        /// The model.
        name: String,
        /// The file.
        file: String,
    },
    /// Its description.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// It has no tokenizer.
    #[error("`{}` is missing: copy it from where the weights are from", path.display())]
    NoTokenizer {
        /// Where it should be.
        path: PathBuf,
    },
    /// A card cannot be read.
    #[error("`{}` is no card of a model: {reason}", path.display())]
    BadCard {
        /// The card.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The models of a site, in a folder.
pub struct ModelStore {
    folder: PathBuf,
}

impl ModelStore {
    /// The models in a folder, which need not be there yet.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Takes a checkpoint in, once its headers fit its configuration. The same again changes only what is said
    /// of it: where it is from, its licence, and who has decided that it may be used for patients, if anybody.
    ///
    /// # Errors
    ///
    /// Says what does not fit, or which file cannot be used.
    pub fn import(&self, import: &Import<'_>) -> Result<ModelCard, StoreError> {
        let is_plain =
            |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "-.".contains(it);
        if import.name.is_empty()
            || import.name.starts_with('.')
            || !import.name.chars().all(is_plain)
        {
            return Err(StoreError::Name(import.name.to_owned()));
        }
        let found = Found::in_folder(import.from)?;
        let place = self.folder.join(import.name);
        if place.join(CARD).exists() {
            let (there, card) = (self.card(import.name)?, found.card(import)?);
            let is_same = there.digest == card.digest && there.is_eight_bit == card.is_eight_bit;
            if !is_same {
                return Err(StoreError::Taken(card.name));
            }
            if there != card {
                write_card(&place, &card)?;
            }
            return Ok(card);
        }
        // Made beside its place and then moved there: half a model is never seen.
        let fresh = self.folder.join(format!(".{}.part", import.name));
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(io_error(&fresh))?;
        }
        let files = fresh.join(CHECKPOINT);
        fs::create_dir_all(&files).map_err(io_error(&files))?;
        for source in found.files {
            let to = files.join(source.file_name().unwrap_or_default());
            let done = if import.is_linked {
                std::os::unix::fs::symlink(&source, &to)
            } else {
                fs::copy(&source, &to).map(drop)
            };
            done.map_err(io_error(&to))?;
        }
        // What lies here now is what counts.
        let card = Found::in_folder(&files)?.card(import)?;
        write_card(&fresh, &card)?;
        fs::rename(&fresh, &place).map_err(io_error(&place))?;
        Ok(card)
    }

    /// All models, by name.
    ///
    /// # Errors
    ///
    /// Fails if a card cannot be read.
    pub fn list(&self) -> Result<Vec<ModelCard>, StoreError> {
        let mut cards = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path().join(CARD);
            let is_whole = !entry.file_name().to_string_lossy().starts_with('.');
            if is_whole && path.exists() {
                cards.push(read_card(&path)?);
            }
        }
        cards.sort_by(|a: &ModelCard, b| a.name.cmp(&b.name));
        Ok(cards)
    }

    /// What is known of a model.
    ///
    /// # Errors
    ///
    /// Fails if there is none of this name.
    pub fn card(&self, name: &str) -> Result<ModelCard, StoreError> {
        let path = self.folder.join(name).join(CARD);
        if !name.contains('/') && path.exists() {
            return read_card(&path);
        }
        let there: Vec<String> = self.list()?.into_iter().map(|it| it.name).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Err(StoreError::Missing { name: name.to_owned(), there })
    }

    /// The folder with the files of a model.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.join(name).join(CHECKPOINT)
    }

    /// Reads all files of a model again.
    ///
    /// # Errors
    ///
    /// Fails if one is not what was taken in.
    pub fn verify(&self, name: &str) -> Result<ModelCard, StoreError> {
        let card = self.card(name)?;
        card.verify(&self.checkpoint(name))?;
        Ok(card)
    }
}

/// A checkpoint whose headers fit its configuration.
struct Found {
    config: Config,
    plan: Plan,
    /// Everything that belongs to it.
    files: Vec<PathBuf>,
}

impl Found {
    fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        let folder = folder.canonicalize().map_err(io_error(folder))?;
        let path = folder.join("config.json");
        let config = Config::parse(&fs::read_to_string(&path).map_err(io_error(&path))?)?;
        let plan = Plan::read(&folder)?;
        plan.check(&layout(&config))?;
        let tokenizer = folder.join("tokenizer.json");
        if !tokenizer.exists() {
            return Err(StoreError::NoTokenizer { path: tokenizer });
        }
        let companions = COMPANIONS.iter().map(|it| folder.join(it)).filter(|it| it.exists());
        let files = plan.files.iter().cloned().chain(companions).collect();
        Ok(Self { config, plan, files })
    }

    /// Reads all of it.
    fn card(&self, import: &Import<'_>) -> Result<ModelCard, StoreError> {
        let mut files = BTreeMap::new();
        for path in &self.files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, digest_of(path).map_err(io_error(path))?);
        }
        let lines: Vec<String> =
            files.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
        let name_of = |it: Kind| match it {
            Kind::Bf16 => "bf16",
            Kind::F16 => "f16",
            Kind::F32 => "f32",
        };
        let mut kinds: Vec<String> =
            self.plan.tensors.values().map(|it| name_of(it.kind).to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        Ok(ModelCard {
            name: import.name.to_owned(),
            digest: hex::encode(Sha256::digest(lines.concat())),
            files,
            parameters: self.plan.parameters(),
            bytes_on_cpu: self.plan.bytes_on_cpu(import.is_eight_bit),
            bytes: self.plan.bytes(),
            kinds,
            draws_masks: self.config.seg.is_some(),
            is_eight_bit: import.is_eight_bit,
            not_in_eight_bits: if import.is_eight_bit { self.plan.too_odd() } else { Vec::new() },
            source: import.source.to_owned(),
            licence: import.licence.to_owned(),
            clinical_use_decided_by: import.clinical_use_decided_by.map(str::to_owned),
        })
    }
}

/// Puts a card into the folder of a model, in the place of the one that may be there.
fn write_card(folder: &Path, card: &ModelCard) -> Result<(), StoreError> {
    let (path, fresh) = (folder.join(CARD), folder.join(format!("{CARD}.part")));
    let text = serde_json::to_string_pretty(card)
        .map_err(|it| StoreError::BadCard { path: path.clone(), reason: it.to_string() })?;
    fs::write(&fresh, text + "\n").map_err(io_error(&fresh))?;
    fs::rename(&fresh, &path).map_err(io_error(&path))
}

fn read_card(path: &Path) -> Result<ModelCard, StoreError> {
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    let bad = |it: serde_json::Error| StoreError::BadCard {
        path: path.to_owned(),
        reason: it.to_string(),
    };
    serde_json::from_str(&text).map_err(bad)
}

fn digest_of(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
