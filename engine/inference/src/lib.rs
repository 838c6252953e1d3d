//! The shared model of a site: stored checkpoints, the host process that runs one of them, and the
//! engine's clients of it.
//!
//! Read in the order a request travels:
//!
//! - [`site_model`]: the model that the site has in use, local or remote; it can be exchanged for
//!   another while requests are in flight.
//! - [`client`]: the engine's side of a local model. It stores requests in `pending` until their
//!   response arrives; its `supervisor` starts the host process and restarts it after a crash.
//! - [`remote`]: a model on another machine, asked over HTTP, with retries and a circuit breaker.
//! - [`wire`]: the messages between engine and host process, sent as length-prefixed JSON
//!   (`frame`).
//! - [`host`]: the process that owns the device. It decodes pictures and admits requests.
//! - [`scheduler`]: continuous batching. It decides which request runs the next step: image
//!   encoding, a chunk of prefill, one decode step of the whole batch, or segmentation.
//! - `executor`: runs these steps on the network of `citrus-v`.
//! - [`openai`]: requests and responses of `POST /v1/chat/completions`, as server and as client.
//!
//! Beside that path:
//!
//! - [`model_store`]: the checkpoints of a site, each with a model card: source, licence, digests,
//!   and whether it is released for clinical use.
//! - [`page_reader`]: imports the models that read print on pages, for plugins.
//! - [`launch`]: what is needed to start a host process.
//! - [`mod@bench`]: throughput of a model, and the KL divergence between two.
//! - [`memory`]: the memory of this machine and of this process.
//!
//! **Invariants**
//!
//! - A checkpoint is identified by its digest, and every file is verified before it is loaded: the
//!   trail tells to the byte which model produced a response.
//! - Every response carries the warning "not for clinical use" unless a named person of the site
//!   has released the model for it.

pub mod bench;
pub mod client;
mod executor;
mod frame;
pub mod host;
pub mod launch;
pub mod memory;
pub mod model_store;
pub mod openai;
pub mod page_reader;
mod pending;
pub mod remote;
pub mod scheduler;
pub mod site_model;
mod supervisor;
pub mod wire;

pub use citrus_v::Compute;
pub use client::ModelClient;
pub use launch::LaunchConfig;
pub use model_store::{Import, ModelCard, ModelKind, ModelStore, StoreError};
pub use remote::{RemoteConfig, RemoteModel};
pub use scheduler::{Limits, Scheduler};
pub use site_model::{ModelEndpoint, SiteModel};
pub use wire::{FaultKind, InferFault};
