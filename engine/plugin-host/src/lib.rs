//! Runs plugins: each in a confined process of its own, but for those that a site has signed and
//! named as inline. Has files of other systems decoded in a confined process, too.
//!
//! The engine's side:
//! - [`PluginHost`]: finds plugins, runs nodes in them, enforces time limits and cancellation;
//! - `worker`: one loaded plugin and its socket; `inputs`: the folder with the files of its call;
//!   `catalog`: the plugins found at one moment;
//! - `package`: libraries and folders on disk, their digests and copies; `signature`: signing, and
//!   verification against the keys that a site trusts.
//!
//! The plugin's side, in its own process:
//! - [`child`]: the loop that answers the engine; `services`: what the plugin may call meanwhile;
//! - [`library`]: the calls across the C boundary; `sandbox`: what the process cannot do;
//!   `confinement`: whether this system can confine it.
//!
//! Between both: [`protocol`], the messages and frames on the socket; `message_writer` sends them
//! for all threads of a plugin. An inline plugin is a thread of the engine that speaks the same
//! protocol.
//!
//! Files of other systems (SEC-24):
//! - [`ConfinedDecoder`]: the engine's side, which starts a process for each file;
//! - [`decoder_child`]: the process, with `decoder_sandbox`; `decoder_answer`: what it is asked and
//!   answers.
//!
//! **Invariants**
//!
//! - A library, once loaded, is never unloaded: threads it started may still be running its code.
//! - The engine's own process runs the code of no plugin but those named under `inline_plugins`.
//! - A plugin that panics, crashes, hangs, leaks memory or breaks the protocol fails its node and
//!   nothing else, unless it is inline.
//! - A run uses the library it began with, by its digest.
//! - A file of another system is decoded once, by a process that decodes nothing else.
//! - A process sees the files of the call it works on, and no other data of the engine. Where the
//!   system cannot ensure that, no plugin is loaded unless the site allows it. It serves one run, of
//!   one patient, unless the site has its plugin reused.

mod catalog;
pub mod child;
mod confinement;
mod decoder;
mod decoder_answer;
pub mod decoder_child;
mod decoder_sandbox;
mod host;
mod inputs;
pub mod library;
mod message_writer;
mod package;
pub mod protocol;
mod sandbox;
mod services;
mod signature;
mod worker;

pub use catalog::{LoadedPlugin, RefusedPlugin};
pub use confinement::{ConfinementGap, confinement_gap};
pub use decoder::{ConfinedDecoder, DecoderLimits};
pub use decoder_answer::{DecoderTask, UnknownTask};
pub use host::{HostError, PluginHost, PluginLimits};
pub use package::plugins_in;
pub use sandbox::Lent;
pub use signature::{Manifest, Trust, VerificationError, sign};
