//! The index of a checkpoint: which tensors its safetensors files contain, read from their headers.
//!
//! The index is compared with the shapes that the model needs before any weight is read. It also
//! gives the number of parameters and the memory that they need.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use serde::Deserialize;

use crate::tensor_names::{CanonicalName, canonical_name};
use crate::tensor_shapes::TensorShapes;

/// The table of embeddings. It is looked up, not multiplied, unless it is the output layer as well.
const EMBEDDINGS: &str = "language_model.embed_tokens.weight";

/// The weight of the output layer, which tied checkpoints do not have.
const LM_HEAD: &str = "lm_head.weight";

/// The longest header of a file that is read.
const HEADER_BYTES_MAX: u64 = 100 << 20;

/// The maximum number of names in each list of an error.
const LISTED_MAX: usize = 20;

/// Why the weights of a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file that cannot be read.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// There is no safetensors file.
    #[error(
        "`{}` holds no weights: a file ending in .safetensors is needed (others, as .bin and .pt, \
         can hide programs and are not read)", folder.display()
    )]
    NoWeights {
        /// The folder without weights.
        folder: PathBuf,
    },
    /// A file is not in the safetensors format.
    #[error("`{}` is no safetensors file: {reason}", path.display())]
    NotSafetensors {
        /// The malformed file.
        path: PathBuf,
        /// What is wrong with its header.
        reason: String,
    },
    /// A file is shorter or longer than its header says.
    #[error(
        "`{}` has {found} bytes, by its header it should have {expected}: it was not copied whole, \
         so copy it again", path.display()
    )]
    Truncated {
        /// The incomplete file.
        path: PathBuf,
        /// The length of the file.
        found: u64,
        /// The length by its header.
        expected: u64,
    },
    /// The tensors are not those of the model.
    #[error("the weights do not fit the model of config.json:{0}")]
    Mismatch(Mismatch),
    /// The number type is not supported.
    #[error("`{name}` is of the kind {kind}: bf16, f16 and f32 can be read")]
    NumberType {
        /// The name of the tensor in the file.
        name: String,
        /// The number type in the header.
        kind: String,
    },
    /// candle cannot map or convert the weights.
    #[error("the weights cannot be loaded")]
    Candle(#[from] candle_core::Error),
}

/// A tensor whose shape differs from the one that the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeMismatch {
    /// The canonical name of the tensor.
    pub name: String,
    /// The shape that the model needs.
    pub needed: Vec<usize>,
    /// The shape in the file.
    pub found: Vec<usize>,
}

/// All differences between the tensors of a checkpoint and those that the model needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// The tensors that are needed and not there.
    pub missing: Vec<String>,
    /// The tensors that are there and not needed.
    pub unexpected: Vec<String>,
    /// The tensors that are in two files, so that it is not clear which one is valid.
    pub duplicates: Vec<String>,
    /// The tensors of another shape.
    pub shapes: Vec<ShapeMismatch>,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_list(f, "missing", &self.missing)?;
        write_list(f, "unexpected", &self.unexpected)?;
        write_list(f, "in two files", &self.duplicates)?;
        let shapes: Vec<String> = self.shapes.iter().map(ToString::to_string).collect();
        write_list(f, "of another shape", &shapes)
    }
}

impl std::fmt::Display for ShapeMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, needed, found } = self;
        write!(f, "{name}: {needed:?} is needed, {found:?} is there")
    }
}

/// Writes a list with its title; nothing if it is empty.
fn write_list(f: &mut std::fmt::Formatter<'_>, title: &str, lines: &[String]) -> std::fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    let listed = lines.get(..LISTED_MAX.min(lines.len())).unwrap_or_default();
    write!(f, "\n  {title}:\n    {}", listed.join("\n    "))?;
    let more = lines.len() - listed.len();
    if more > 0 {
        write!(f, "\n    and {more} more")?;
    }
    Ok(())
}

/// The number type of a tensor in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberType {
    /// 16 bits with the exponent of f32.
    Bf16,
    /// 16 bits with more digits and a smaller range.
    F16,
    /// 32 bits, as IEEE 754 single precision.
    F32,
}

impl NumberType {
    /// Reads the name in a safetensors header.
    fn parse(name: &str) -> Option<Self> {
        match name {
            "BF16" => Some(Self::Bf16),
            "F16" => Some(Self::F16),
            "F32" => Some(Self::F32),
            _ => None,
        }
    }

    /// The name on model cards.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    /// The size of a number in bytes.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Where a tensor is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorLocation {
    /// The index of the file in [`CheckpointIndex::files`].
    pub file: usize,
    /// The name of the tensor in the file.
    pub name: String,
    /// The row of that tensor, if this is only one row of it.
    pub row: Option<usize>,
    /// The shape of the tensor, or of its one row.
    pub shape: Vec<usize>,
    /// The number type in the file, which loading converts.
    pub number_type: NumberType,
}

impl TensorLocation {
    fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether rows divide into blocks of `Q8_0`.
    fn is_quantizable(&self) -> bool {
        let row_length = self.shape.last().copied().unwrap_or_default();
        self.shape.len() == 2 && row_length.is_multiple_of(GgmlDType::Q8_0.block_size())
    }
}

/// The tensors of a checkpoint, known from the headers of its files.
#[derive(Clone, Debug, Default)]
pub struct CheckpointIndex {
    /// The safetensors files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// The tensors by canonical name.
    pub tensors: BTreeMap<String, TensorLocation>,
    /// The names in the files that belong to no tensor of the model.
    pub unknown: Vec<String>,
    /// The names that occur in two files.
    pub duplicates: Vec<String>,
}

/// A tensor in the header of a safetensors file.
#[derive(Deserialize)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl CheckpointIndex {
    /// Reads the headers of all safetensors files in a folder, or of one file. No weight is read.
    ///
    /// # Errors
    ///
    /// Fails if there is no file, or one is incomplete or malformed.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let files = safetensors_files(path)?;
        if files.is_empty() {
            return Err(WeightsError::NoWeights { folder: path.to_owned() });
        }
        let mut index = Self::default();
        for (file_index, file) in files.iter().enumerate() {
            for (name, entry) in read_header(file)? {
                index.add(file_index, name, entry)?;
            }
        }
        index.files = files;
        index.unknown.sort();
        index.duplicates.sort();
        index.duplicates.dedup();
        Ok(index)
    }

    fn add(&mut self, file: usize, name: String, entry: HeaderEntry) -> Result<(), WeightsError> {
        let canonical = canonical_name(&name);
        if canonical == CanonicalName::Unused {
            return Ok(());
        }
        let Some(number_type) = NumberType::parse(&entry.dtype) else {
            return Err(WeightsError::NumberType { name, kind: entry.dtype });
        };
        let location = TensorLocation { file, name, row: None, shape: entry.shape, number_type };
        match canonical {
            CanonicalName::Tensor(canonical) => self.insert(canonical, location),
            CanonicalName::Rows(rows) => self.insert_rows(rows, &location),
            CanonicalName::Unknown => self.unknown.push(location.name),
            CanonicalName::Unused => {}
        }
        Ok(())
    }

    /// Inserts the rows of a table as tensors with one row each.
    fn insert_rows(&mut self, canonical_names: Vec<String>, table: &TensorLocation) {
        let row_count = table.shape.first().copied().unwrap_or_default();
        let rest = table.shape.get(1..).unwrap_or_default();
        let shape: Vec<usize> = std::iter::once(1).chain(rest.iter().copied()).collect();
        for (row, canonical) in canonical_names.into_iter().enumerate().take(row_count) {
            let location = TensorLocation { row: Some(row), shape: shape.clone(), ..table.clone() };
            self.insert(canonical, location);
        }
    }

    /// Inserts a tensor. A file may contain it under two names; one name in two files is an error.
    fn insert(&mut self, canonical: String, location: TensorLocation) {
        let previous = self.tensors.insert(canonical, location.clone());
        if previous.is_some_and(|it| it.name == location.name && it.row == location.row) {
            self.duplicates.push(location.name);
        }
    }

    /// Compares the tensors with those that the model needs.
    ///
    /// # Errors
    ///
    /// Lists all differences.
    pub fn check(&self, needed: &TensorShapes) -> Result<(), WeightsError> {
        let mut mismatch = Mismatch {
            unexpected: self.unknown.clone(),
            duplicates: self.duplicates.clone(),
            ..Mismatch::default()
        };
        for (name, shape) in needed {
            match self.tensors.get(name) {
                None => mismatch.missing.push(name.clone()),
                Some(found) if found.shape != *shape => mismatch.shapes.push(ShapeMismatch {
                    name: name.clone(),
                    needed: shape.clone(),
                    found: found.shape.clone(),
                }),
                Some(_) => {}
            }
        }
        for (name, location) in &self.tensors {
            // With tied embeddings, some checkpoints contain the output layer nevertheless.
            if !needed.contains_key(name) && name != LM_HEAD {
                mismatch.unexpected.push(location.name.clone());
            }
        }
        if mismatch == Mismatch::default() { Ok(()) } else { Err(WeightsError::Mismatch(mismatch)) }
    }

    /// The number of parameters.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|it| it.element_count() as u64).sum()
    }

    /// The memory that the weights need on a CPU, in bytes: f32, or `Q8_0` where
    /// [`Weights`](crate::Weights) quantizes. Tied embeddings are in memory twice.
    pub fn cpu_memory_bytes(&self, is_quantized: bool) -> u64 {
        let has_tied_embeddings = !self.tensors.contains_key(LM_HEAD);
        let mut bytes = 0;
        for (name, location) in &self.tensors {
            let full = location.element_count() as u64 * 4;
            let as_linear_weight =
                if is_quantized && location.is_quantizable() && is_of_language_model(name) {
                    q8_0_bytes(location.element_count() as u64)
                } else {
                    full
                };
            bytes += match name == EMBEDDINGS {
                true if has_tied_embeddings => full + as_linear_weight,
                true => full,
                false => as_linear_weight,
            };
        }
        bytes
    }

    /// The weights of linear layers of the language model whose rows do not divide into blocks of
    /// `Q8_0`: they are not quantized.
    pub fn unquantizable(&self) -> Vec<String> {
        let is_linear_weight = |name: &str, location: &TensorLocation| {
            location.shape.len() == 2 && name != EMBEDDINGS && is_of_language_model(name)
        };
        self.tensors
            .iter()
            .filter(|(name, it)| is_linear_weight(name, it) && !it.is_quantizable())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The size of all tensors in the files, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        let bytes = |it: &TensorLocation| it.element_count() * it.number_type.size_bytes();
        self.tensors.values().map(|it| bytes(it) as u64).sum()
    }
}

/// The size of this number of parameters in `Q8_0`, in bytes.
fn q8_0_bytes(count: u64) -> u64 {
    let blocks = count / GgmlDType::Q8_0.block_size() as u64;
    blocks * GgmlDType::Q8_0.type_size() as u64
}

/// The safetensors files of a folder in the order of their names, or the one file given.
fn safetensors_files(path: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|it| io_error(path, it))? {
        files.push(entry.map_err(|it| io_error(path, it))?.path());
    }
    files.retain(|it| it.extension().is_some_and(|it| it == "safetensors"));
    files.sort();
    Ok(files)
}

/// Reads the header of a file and compares it with the length of the file.
fn read_header(path: &Path) -> Result<BTreeMap<String, HeaderEntry>, WeightsError> {
    let mut file = File::open(path).map_err(|it| io_error(path, it))?;
    let found = file.metadata().map_err(|it| io_error(path, it))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| malformed(path, "it is too short"))?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX || length.saturating_add(8) > found {
        return Err(malformed(path, "its header is longer than it may be"));
    }
    let mut json = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact(&mut json).map_err(|it| io_error(path, it))?;
    let mut values: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&json).map_err(|it| malformed(path, &it.to_string()))?;
    values.remove("__metadata__");
    let mut entries = BTreeMap::new();
    let mut end = 0;
    for (name, value) in values {
        let entry: HeaderEntry = serde_json::from_value(value)
            .map_err(|error| malformed(path, &format!("`{name}`: {error}")))?;
        end = end.max(entry.data_offsets[1]);
        entries.insert(name, entry);
    }
    let expected = end.saturating_add(8 + length);
    if expected != found {
        return Err(WeightsError::Truncated { path: path.to_owned(), found, expected });
    }
    Ok(entries)
}

fn io_error(path: &Path, source: std::io::Error) -> WeightsError {
    WeightsError::Io { path: path.to_owned(), source }
}

fn malformed(path: &Path, reason: &str) -> WeightsError {
    WeightsError::NotSafetensors { path: path.to_owned(), reason: reason.to_owned() }
}

/// Whether a tensor belongs to the language model.
pub(crate) fn is_of_language_model(name: &str) -> bool {
    name.starts_with("language_model.") || name == LM_HEAD
}
