//! Loads plugins and has them work, each in a process of its own, but for those that a site has signed
//! and trusts with the engine's.
//!
//! [`PluginHost`] is the engine's side: it finds libraries, copies them under the name of their
//! digest, starts a child per call or takes an idle one, and watches its time. [`child`] is what
//! such a process does, `sandbox` what it may not; [`library`] loads and calls, `protocol` is what both
//! sides say. An inline plugin is a thread of the engine that does and says the same.
//!
//! **Invariants**
//!
//! - A library, once loaded, is never unloaded: threads it started may still be running its code.
//! - The engine's own process runs code of no plugin but those named inline (`inline_plugins`).
//! - A plugin that panics, crashes, hangs, leaks or talks nonsense fails its node and nothing else,
//!   unless it is inline.
//! - A run keeps the library it began with, by its digest.

pub mod child;
mod host;
pub mod library;
mod package;
pub mod protocol;
mod sandbox;
mod worker;

pub use host::{HostError, LoadedPlugin, PluginHost, PluginLimits};
pub use package::{Manifest, Trust, plugins_in, sign};
