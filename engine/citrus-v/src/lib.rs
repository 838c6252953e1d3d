//! Citrus-V (arXiv 2509.19090): Qwen2.5-VL, a projector for `[SEG]`, and SAM2, in candle.
//!
//! [`model`] is the way in: it loads a checkpoint, reads a question, answers it in one pass and draws a
//! mask for every `[SEG]`; [`session`] does the same step by step, for many at once, with the [`cache`]
//! of each, and remembers what was asked of late (`recall`). A checkpoint is described by [`config`],
//! from which [`layout`] knows every tensor; [`plan`] compares that with the headers of the files, whose
//! [`names`] may be any of those in use, and [`weights`] maps them. [`tokens`] and [`preprocess`] put text and
//! pictures into numbers, [`positions`] says where they stand, [`compute`] on which device they lie;
//! [`vision`], [`text`] and [`sam`] are the three networks, made of [`ops`] and [`convolutions`], and
//! [`decoding`] chooses words. [`losses`] is what training makes smaller.
//!
//! **Invariants**
//!
//! - Every operation has a right gradient, or refuses: what is opened for training goes through candle's
//!   operations, and on a CPU inference goes through those of `cpu_kernels`.
//! - No weight is read before all headers have been compared with what the model needs.
//! - Only safetensors are read: other formats can hide programs.

pub mod cache;
pub mod compute;
pub mod config;
pub mod convolutions;
pub mod decoding;
pub mod layout;
pub mod losses;
pub mod model;
pub mod names;
pub mod ops;
pub mod plan;
pub mod positions;
pub mod preprocess;
mod recall;
pub mod sam;
pub mod session;
pub mod text;
pub mod tokens;
pub mod vision;
pub mod weights;

pub use candle_core::{DType, Device};
pub use compute::Compute;
pub use config::{Config, ConfigError, SamConfig};
pub use decoding::Decoding;
pub use model::{Answer, CitrusV, Ending, ModelError, Question, Segmentation};
pub use plan::{Plan, WeightsError};
pub use preprocess::PixelBounds;
pub use session::{Need, Session};
pub use tokens::{Message, Speaker};
pub use weights::{Precision, Weights};
