//! The shared model of a site.
//!
//! [`model_store`] keeps checkpoints with what is known of them: where they are from, under which
//! licence, and whether the site uses them for patients. [`scheduler`] decides who works next on the
//! device; [`host`] is the process that owns the device and does what it decides, a `job` at a time.
//! [`shared`] is the engine's side of it: its `questions` wait while its `keeper` starts that process, and starts
//! it again;
//! [`site_model`] is the one at work, which another can take the place of. [`wire`] is what all of
//! them say, [`openai`] the same as other programs say it, and [`remote`] a model that another machine has.
//! [`mod@bench`] times one, and says how far two are apart.
//!
//! **Invariants**
//!
//! - A checkpoint is one by its digest: what answered is known to the byte.
//! - A model is not for clinical use unless somebody of the site has said so, by name.

pub mod bench;
mod frame;
pub mod host;
mod job;
mod keeper;
pub mod memory;
pub mod model_store;
pub mod openai;
mod questions;
pub mod remote;
pub mod scheduler;
pub mod shared;
pub mod site_model;
pub mod wire;

pub use citrus_v::Compute;
pub use model_store::{Import, ModelCard, ModelStore, StoreError};
pub use questions::Start;
pub use remote::{RemoteConfig, RemoteModel};
pub use scheduler::{Limits, Scheduler};
pub use shared::SharedModel;
pub use site_model::{Served, SiteModel};
pub use wire::InferFault;
