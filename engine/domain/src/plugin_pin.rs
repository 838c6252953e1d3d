//! The identity of a plugin: one build of its library, whatever is installed under its name later.

use serde::{Deserialize, Serialize};

/// One build of a plugin library. A run uses the same build to its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PluginPin {
    /// Name of the plugin.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// SHA-256 of the library, in hex.
    pub digest: String,
}
