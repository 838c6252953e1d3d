//! Files that plugins make: stored in the archive, and referred to by their digest.

use serde::{Deserialize, Serialize};

/// A file that a plugin made, such as a mask, stored in the archive by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// SHA-256 of the bytes, in hex.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}
