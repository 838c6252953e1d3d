//! The algorithms behind a result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An algorithm that computed a part of the result (OUT-15, OUT-33).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Algorithm {
    /// Name of the algorithm.
    pub name: String,
    /// Version of the algorithm, at most 64 characters.
    pub version: String,
    /// Its parameters and identity: `plugin_sha256`, `threshold_hu`, …
    pub parameters: BTreeMap<String, String>,
}
