//! What a plugin author writes against.
//!
//! A plugin is one pure function, compiled into a shared library:
//!
//! ```
//! use domain::{NodeInput, NodeOutput};
//! use plugin_api::{Context, Level, NodeError, Plugin, export_plugin};
//! use serde::Deserialize;
//!
//! /// Counts the series of a study.
//! struct CountSeries;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     series_min: usize,
//! }
//!
//! impl Plugin for CountSeries {
//!     const NAME: &'static str = "count-series";
//!     const VERSION: &'static str = "1.0.0";
//!     type Settings = Settings;
//!
//!     fn process(
//!         context: &Context<'_>,
//!         settings: &Settings,
//!         input: NodeInput,
//!     ) -> Result<NodeOutput, NodeError> {
//!         let count = input.study.map_or(0, |it| it.series.len());
//!         if count < settings.series_min {
//!             return Err(NodeError::rejected("too_few_series", format!("{count} series")));
//!         }
//!         context.log(Level::Information, "counted");
//!         Ok(NodeOutput::default())
//!     }
//! }
//!
//! export_plugin!(CountSeries);
//! # fn main() {}
//! ```
//!
//! **Invariant:** a plugin computes and the engine acts. It opens no socket, file or clock; what it
//! needs it asks of its [`Context`].

pub mod abi;
mod context;
mod export;

use domain::{NodeInput, NodeOutput};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use context::{Context, HostError, Level, VolumeRef};
#[doc(hidden)]
pub use export::{cancel, check, describe, process, table};

/// One kind of work, as a pure function.
///
/// There is no `self`. Two runs of the same input give the same output, whatever ran before, so
/// the engine is free to retry a node, to run it twice after a crash, and to replay last year's
/// study in a test.
pub trait Plugin: 'static {
    /// Name by which workflow files refer to it.
    const NAME: &'static str;

    /// Its version, as the trail records it.
    const VERSION: &'static str;

    /// What the workflow file sets under `with:`. Refuse unknown keys.
    type Settings: DeserializeOwned;

    /// Does the work.
    ///
    /// # Errors
    ///
    /// The choice of [`NodeError`] decides what the engine does next: a rejected input goes to a
    /// person, an unavailable resource is tried again.
    fn process(
        context: &Context<'_>,
        settings: &Self::Settings,
        input: NodeInput,
    ) -> Result<NodeOutput, NodeError>;
}

/// Why a node produced nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The input is at fault, and would be tomorrow. A person will look at it.
    #[error("{code}: {reason}")]
    Rejected {
        /// What is wrong, in a word: `geometry_inconsistent`.
        code: String,
        /// What is wrong, in a sentence, with its numbers.
        reason: String,
    },
    /// Something around the node is at fault, and may not be tomorrow. Say what.
    #[error("{0}")]
    Unavailable(String),
}

impl NodeError {
    /// The input is at fault.
    pub fn rejected(code: &str, reason: impl Into<String>) -> Self {
        Self::Rejected { code: code.to_owned(), reason: reason.into() }
    }
}

/// What `process` is given, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// What the workflow file sets under `with:`.
    pub settings: serde_json::Value,
    /// What to work on.
    pub input: NodeInput,
}

/// What `describe` gives, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What `process` gives when it rejects its input, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// What is wrong, in a word.
    pub code: String,
    /// What is wrong, in a sentence.
    pub reason: String,
}

/// Makes a library of a [`Plugin`].
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        /// The table of this plugin.
        #[expect(unsafe_code, reason = "the one symbol of a plugin")]
        // SAFETY: no other library of a process has a function of this name: each plugin is loaded
        // by its path, with names of its own.
        #[unsafe(no_mangle)]
        pub extern "C" fn isocenter_plugin_v1() -> *const $crate::abi::v1::PluginTable {
            static TABLE: $crate::abi::v1::PluginTable = $crate::table(
                $crate::describe::<$plugin>,
                $crate::check::<$plugin>,
                $crate::process::<$plugin>,
                $crate::cancel,
            );
            &raw const TABLE
        }
    };
}
