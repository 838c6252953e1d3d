//! The interface a plugin author writes against.
//!
//! - [`Plugin`]: the trait that a plugin implements, and [`export_plugin!`] to make a library of
//!   it;
//! - [`Context`]: the services of the engine during a call: images, the shared model, the log;
//! - [`NodeError`] and [`RejectionCode`]: the two ways in which a call fails;
//! - [`abi`]: the same contract as a C table, one frozen edition per file.
//!
//! The crate `plugin-toolkit` adds what plugins that ask the shared model have in common.
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
//! **Invariant:** a plugin computes and the engine acts. A plugin opens no socket, no file and no
//! clock; its [`Context`] is its only source of data.

pub mod abi;
mod context;
mod export;

use domain::{NodeInput, NodeOutput};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use context::{Context, HostError, HostRejection, Level, VolumeRef};
#[doc(hidden)]
pub use export::{cancel, check, describe, process, table};

/// One kind of work, as a pure function.
///
/// There is no `self`. Two runs of the same input give the same output, whatever ran before, so
/// the engine is free to retry a node, to run it twice after a crash, and to replay last year's
/// study in a test.
pub trait Plugin: 'static {
    /// Name by which workflow files refer to this plugin.
    const NAME: &'static str;

    /// Version of this plugin, as the trail records it.
    const VERSION: &'static str;

    /// What the workflow file sets under `with:`. The type should refuse unknown keys.
    type Settings: DeserializeOwned;

    /// Works on one node.
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

/// Why a node produced no output. The variant decides what the engine does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The input is at fault, and another try would fail in the same way: a person has to look.
    #[error("{code}: {reason}")]
    Rejected {
        /// Stable name of the reason, in snake case: `geometry_inconsistent`.
        code: String,
        /// The reason as a sentence for people, with its numbers and without any name of a patient.
        reason: String,
    },
    /// Something around the node is at fault, and another try may succeed. The text says what.
    #[error("{0}")]
    Unavailable(String),
}

impl NodeError {
    /// Builds a rejection of the input. See [`RejectionCode`] for what may stand as the code.
    pub fn rejected(code: impl RejectionCode, reason: impl Into<String>) -> Self {
        Self::Rejected { code: code.name().to_owned(), reason: reason.into() }
    }
}

/// The stable name of a reason for rejecting an input.
///
/// The trail records it and workflows are read by it, so it must not change between releases. A
/// plugin with more than one reason declares them as an enum of its own and implements this trait;
/// a plugin with a single reason may use a literal.
///
/// ```
/// use plugin_api::{NodeError, RejectionCode};
///
/// #[derive(Clone, Copy)]
/// enum Reason {
///     NoStudy,
///     TooFewSeries,
/// }
///
/// impl RejectionCode for Reason {
///     fn name(self) -> &'static str {
///         match self {
///             Self::NoStudy => "no_study",
///             Self::TooFewSeries => "too_few_series",
///         }
///     }
/// }
///
/// let error = NodeError::rejected(Reason::TooFewSeries, "1 series");
/// assert_eq!(error.to_string(), "too_few_series: 1 series");
/// ```
pub trait RejectionCode: Copy {
    /// The name, in snake case.
    fn name(self) -> &'static str;
}

impl RejectionCode for &'static str {
    fn name(self) -> &'static str {
        self
    }
}

/// The argument of `process`, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The settings under `with:` of the workflow file.
    pub settings: serde_json::Value,
    /// The data of the node.
    pub input: NodeInput,
}

/// The response of `describe`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name of the plugin.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
}

/// The response to every call that ends with [`abi::v1::Status::REJECTED`], as JSON: of `process`,
/// and of the services that the engine lends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Stable name of the reason, in snake case.
    pub code: String,
    /// The reason as a sentence for people.
    pub reason: String,
}

/// Exports a [`Plugin`] as the one symbol that the engine looks for in a shared library.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        /// Returns the table of this plugin.
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
