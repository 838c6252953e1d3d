//! What is in the files of a checkpoint, by their headers, and whether it fits what the model needs. No weight is
//! read for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use serde::Deserialize;

use crate::layout::Layout;
use crate::names::{Meaning, meaning};

/// The table of words, which is no product but where it is the output layer, too.
const TABLE: &str = "language_model.embed_tokens.weight";

/// Longest header of a file.
const HEADER_BYTES_MAX: u64 = 100 << 20;

/// Most names of each kind that an error lists.
const LISTED_MAX: usize = 20;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no file with tensors.
    #[error(
        "`{}` holds no weights: a file ending in .safetensors is needed (others, as .bin and .pt, \
         can hide programs and are not read)", folder.display()
    )]
    NoWeights {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file is not what its name says.
    #[error("`{}` is no safetensors file: {reason}", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is shorter or longer than its header says.
    #[error(
        "`{}` has {found} bytes, by its header it should have {expected}: it was not copied whole, \
         so copy it again", path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// The tensors are not those of the model.
    #[error("the weights do not fit the model of config.json:{0}")]
    Misfit(Misfit),
    /// Numbers of a kind that no model has.
    #[error("`{name}` is of the kind {kind}: bf16, f16 and f32 can be read")]
    Kind {
        /// The tensor.
        name: String,
        /// What it is of.
        kind: String,
    },
    /// The library failed.
    #[error("the weights cannot be loaded")]
    Candle(#[from] candle_core::Error),
}

/// All that does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misfit {
    /// Needed, and not there.
    pub missing: Vec<String>,
    /// There, and not known.
    pub unexpected: Vec<String>,
    /// There in two files: which one would be meant?
    pub twice: Vec<String>,
    /// Name, shape that is needed, shape that is there.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |f: &mut std::fmt::Formatter<'_>, what: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return Ok(());
            }
            let more = lines.len().saturating_sub(LISTED_MAX);
            let mut text = lines.into_iter().take(LISTED_MAX).collect::<Vec<_>>().join("\n    ");
            if more > 0 {
                write!(text, "\n    and {more} more")?;
            }
            write!(f, "\n  {what}:\n    {text}")
        };
        list(f, "missing", self.missing.clone())?;
        list(f, "unexpected", self.unexpected.clone())?;
        list(f, "in two files", self.twice.clone())?;
        let shape = |(name, needed, found): &(String, Vec<usize>, Vec<usize>)| {
            format!("{name}: {needed:?} is needed, {found:?} is there")
        };
        list(f, "of another shape", self.misshapen.iter().map(shape).collect())
    }
}

/// Kind of the numbers of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Half as long as [`Kind::F32`], with its range.
    Bf16,
    /// Half as long, with more digits and less range.
    F16,
    /// Four bytes.
    F32,
}

impl Kind {
    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of the files.
    pub file: usize,
    /// Its name there.
    pub name: String,
    /// Which row of it, if it is one.
    pub row: Option<usize>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub kind: Kind,
}

/// What is in the files of a checkpoint: known from their headers alone.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Tensors by our names.
    pub tensors: BTreeMap<String, Place>,
    /// Names in the files that nobody knows.
    pub unknown: Vec<String>,
    /// Names that are in two files.
    pub twice: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Plan {
    /// Reads the headers of all files of a folder, or of one file. No weight is read.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or one is not whole.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let mut files = Vec::new();
        if path.is_dir() {
            let io = |source| WeightsError::Io { path: path.to_owned(), source };
            for entry in std::fs::read_dir(path).map_err(io)? {
                files.push(entry.map_err(io)?.path());
            }
            files.retain(|it| it.extension().is_some_and(|it| it == "safetensors"));
            files.sort();
        } else {
            files.push(path.to_owned());
        }
        if files.is_empty() {
            return Err(WeightsError::NoWeights { folder: path.to_owned() });
        }
        let mut plan = Self::default();
        for (index, file) in files.iter().enumerate() {
            for (name, entry) in header(file)? {
                plan.take(index, name, entry)?;
            }
        }
        plan.files = files;
        plan.unknown.sort();
        plan.twice.sort();
        plan.twice.dedup();
        Ok(plan)
    }

    fn take(&mut self, file: usize, name: String, entry: Entry) -> Result<(), WeightsError> {
        let meaning = meaning(&name);
        if meaning == Meaning::Unused {
            return Ok(());
        }
        let kind = match entry.dtype.as_str() {
            "BF16" => Kind::Bf16,
            "F16" => Kind::F16,
            "F32" => Kind::F32,
            other => return Err(WeightsError::Kind { name, kind: other.to_owned() }),
        };
        let place = Place { file, name, row: None, shape: entry.shape, kind };
        match meaning {
            Meaning::Tensor(ours) => self.put(ours, place),
            Meaning::Rows(names) => {
                let rest = place.shape.get(1..).unwrap_or_default();
                let shape: Vec<usize> = std::iter::once(1).chain(rest.iter().copied()).collect();
                let rows = place.shape.first().copied().unwrap_or_default();
                for (row, ours) in names.into_iter().enumerate().take(rows) {
                    let (row, shape) = (Some(row), shape.clone());
                    self.put(ours, Place { row, shape, ..place.clone() });
                }
            }
            Meaning::Unknown => self.unknown.push(place.name),
            Meaning::Unused => {}
        }
        Ok(())
    }

    /// A tensor may have two names, whose numbers are the same; one name in two files is a mistake.
    fn put(&mut self, ours: String, place: Place) {
        let before = self.tensors.insert(ours, place.clone());
        if before.is_some_and(|it| it.name == place.name && it.row == place.row) {
            self.twice.push(place.name);
        }
    }

    /// Whether all that is needed is there, and nothing else.
    ///
    /// # Errors
    ///
    /// Lists what is missing, unexpected, or of another shape.
    pub fn check(&self, needed: &Layout) -> Result<(), WeightsError> {
        let (unexpected, twice) = (self.unknown.clone(), self.twice.clone());
        let mut misfit = Misfit { unexpected, twice, ..Misfit::default() };
        for (name, shape) in needed {
            match self.tensors.get(name) {
                None => misfit.missing.push(name.clone()),
                Some(it) if it.shape != *shape => {
                    misfit.misshapen.push((name.clone(), shape.clone(), it.shape.clone()));
                }
                Some(_) => {}
            }
        }
        let spare = self.tensors.iter().filter(|(name, _)| !needed.contains_key(*name));
        // Where the embedding is the output layer, some write it down twice.
        let spare = spare.filter(|(name, _)| *name != "lm_head.weight");
        misfit.unexpected.extend(spare.map(|(_, it)| it.name.clone()));
        if misfit == Misfit::default() { Ok(()) } else { Err(WeightsError::Misfit(misfit)) }
    }

    /// How many numbers it has.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|it| it.shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes that it takes in memory on a CPU: in f32, or, of the products of the language model, in eight bits
    /// where rows can be cut in blocks. An embedding that is the output layer, too, is there twice.
    pub fn bytes_on_cpu(&self, is_eight_bit: bool) -> u64 {
        let is_tied = !self.tensors.contains_key("lm_head.weight");
        let of = |(name, it): (&String, &Place)| {
            let count = it.shape.iter().product::<usize>() as u64;
            let last = it.shape.last().copied().unwrap_or_default();
            let is_cut = last.is_multiple_of(GgmlDType::Q8_0.block_size()) && it.shape.len() == 2;
            let product = if is_eight_bit && is_cut && is_of_text(name) {
                let blocks = count / GgmlDType::Q8_0.block_size() as u64;
                blocks * GgmlDType::Q8_0.type_size() as u64
            } else {
                count * 4
            };
            match name == TABLE {
                true if is_tied => count * 4 + product,
                true => count * 4,
                false => product,
            }
        };
        self.tensors.iter().map(of).sum()
    }

    /// Products of the language model whose rows cannot be cut in blocks of eight bits: they stay as they are.
    pub fn too_odd(&self) -> Vec<String> {
        let is_odd = |(name, it): &(&String, &Place)| {
            let last = it.shape.last().copied().unwrap_or_default();
            let is_product = it.shape.len() == 2 && **name != TABLE && is_of_text(name);
            is_product && !last.is_multiple_of(GgmlDType::Q8_0.block_size())
        };
        self.tensors.iter().filter(is_odd).map(|(name, _)| name.clone()).collect()
    }

    /// Bytes of all its tensors.
    pub fn bytes(&self) -> u64 {
        let of = |it: &Place| it.shape.iter().product::<usize>() * it.kind.bytes();
        self.tensors.values().map(|it| of(it) as u64).sum()
    }
}

/// The header of a file, compared with the file's length.
fn header(path: &Path) -> Result<BTreeMap<String, Entry>, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let bad = |reason: String| WeightsError::NotSafetensors { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?.len();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| bad("it is too short".to_owned()))?;
    let length = u64::from_le_bytes(start);
    if length > HEADER_BYTES_MAX || length.saturating_add(8) > found {
        return Err(bad("its header is longer than it may be".to_owned()));
    }
    let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact(&mut text).map_err(io)?;
    let mut raw: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|it| bad(it.to_string()))?;
    raw.remove("__metadata__");
    let mut entries = BTreeMap::new();
    let mut end = 0;
    for (name, value) in raw {
        let entry: Entry =
            serde_json::from_value(value).map_err(|it| bad(format!("`{name}`: {it}")))?;
        end = end.max(entry.data_offsets[1]);
        entries.insert(name, entry);
    }
    let expected = end.saturating_add(8 + length);
    if expected != found {
        return Err(WeightsError::Truncated { path: path.to_owned(), found, expected });
    }
    Ok(entries)
}

/// Whether a tensor is of the language model.
pub(crate) fn is_of_text(name: &str) -> bool {
    name.starts_with("language_model.") || name == "lm_head.weight"
}
