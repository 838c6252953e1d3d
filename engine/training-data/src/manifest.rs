//! What a dataset is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of this form.
pub const FORMAT: u32 = 1;

/// The file name of the manifest in the folder of a dataset.
pub const MANIFEST: &str = "manifest.json";

/// What the items of a part are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by while training.
    Validation,
    /// To judge the result.
    Test,
}

impl Split {
    /// All parts, in the order of training.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The name of the file with its items.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Train => "train.jsonl",
            Self::Validation => "validation.jsonl",
            Self::Test => "test.jsonl",
        }
    }
}

/// Where a dataset comes from, and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The name of the dataset.
    pub name: String,
    /// The licence of its pictures and texts.
    pub licence: String,
    /// How it was made, so that it can be made again.
    pub origin: String,
}

/// What a dataset is made of. It names every file, so that its own digest is that of the dataset
/// (PAP-57).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this form.
    pub format: u32,
    /// Where the dataset comes from.
    pub about: About,
    /// For each part the patient of every item, in the order of its lines.
    pub patients: BTreeMap<Split, Vec<String>>,
    /// The SHA-256 of every file, by its path in the folder.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// A patient of several parts, if there is any: what is learned would be judged by itself.
    pub fn shared_patient(&self) -> Option<&str> {
        let mut parts: BTreeMap<&str, Split> = BTreeMap::new();
        for (split, patients) in &self.patients {
            for patient in patients {
                if *parts.entry(patient).or_insert(*split) != *split {
                    return Some(patient);
                }
            }
        }
        None
    }
}
