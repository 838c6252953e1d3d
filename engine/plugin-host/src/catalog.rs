//! The plugins that were found in the folder of plugins, at one moment.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use contracts::PluginPin;

use crate::signature::VerificationError;
use crate::worker::WorkerError;

/// A plugin that runs may use.
#[derive(Clone, Debug)]
pub struct LoadedPlugin {
    /// Name, version and digest.
    pub pin: PluginPin,
    /// The library or folder it was copied from.
    pub source: PathBuf,
}

/// A library or folder that is not used.
#[derive(Clone, Debug)]
pub struct RefusedPlugin {
    /// The library or folder.
    pub source: PathBuf,
    /// The reason, with the way out, for people.
    pub reason: String,
}

/// Why a library or folder is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusalError {
    /// Its files cannot be read or copied.
    #[error("it cannot be read")]
    Unreadable(#[from] io::Error),
    /// Its signature does not satisfy the site's trust.
    #[error(transparent)]
    Untrusted(#[from] VerificationError),
    /// It does not load, or does not answer.
    #[error(transparent)]
    Unusable(#[from] WorkerError),
    /// The name or version that it reports is not the one that was signed.
    #[error("its signature is for {signed}, and it reports to be {reported}")]
    NameMismatch {
        /// Name and version of the signed manifest.
        signed: String,
        /// Name and version of the plugin's own description.
        reported: String,
    },
    /// It is a program, and the site names it as inline.
    #[error("a program of its own cannot be inline: see `inline_plugins`")]
    InlineProgram,
}

/// A snapshot of the folder of plugins.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Plugins that can be used, by name.
    pub(crate) plugins: BTreeMap<String, LoadedPlugin>,
    /// What lies in the folder and cannot be used.
    pub(crate) refused: Vec<RefusedPlugin>,
    /// State of the folder before it was read: see [`crate::signature::signed_stamp`].
    pub(crate) stamp: String,
}
