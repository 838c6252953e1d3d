//! Loads plugins and has them work, each in a process of its own.
//!
//! [`PluginHost`] is the engine's side: it finds libraries, copies them under the name of their
//! digest, starts a child per call or takes an idle one, and watches its time. [`child`] is what
//! such a process does; [`library`] loads and calls, `protocol` is what both sides say.
//!
//! **Invariants**
//!
//! - A library, once loaded, is never unloaded: threads it started may still be running its code.
//! - The engine's own process never runs code of a plugin.
//! - A plugin that panics, crashes, hangs, leaks or talks nonsense fails its node and nothing else.
//! - A run keeps the library it began with, by its digest.

pub mod child;
mod host;
pub mod library;
mod package;
mod protocol;
mod worker;

pub use host::{HostError, LoadedPlugin, PluginHost, PluginLimits};
pub use package::{Manifest, Trust, sign};
