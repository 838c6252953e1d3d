//! The shared model of a site.
//!
//! [`model_store`] keeps checkpoints with what is known of them: where they are from, under which
//! licence, and whether the site uses them for patients.
//!
//! **Invariants**
//!
//! - A checkpoint is one by its digest: what answered is known to the byte.
//! - A model is not for clinical use unless somebody of the site has said so, by name.

pub mod model_store;

pub use model_store::{Import, ModelCard, ModelStore, StoreError};
