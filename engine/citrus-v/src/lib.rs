//! Citrus-V, a vision-language model that reasons about medical images and segments them
//! ([arXiv 2509.19090](https://arxiv.org/abs/2509.19090)), on top of candle.
//!
//! It consists of Qwen2.5-VL ([arXiv 2502.13923](https://arxiv.org/abs/2502.13923)), SAM 2
//! ([arXiv 2408.00714](https://arxiv.org/abs/2408.00714)), and a projector that turns the hidden
//! state of a `[SEG]` token into a prompt for SAM 2. A plain Qwen2.5-VL works as well, without
//! masks.
//!
//! The model, from the top:
//!
//! - [`model`]: [`CitrusV`] loads a checkpoint, prepares inputs and segments pictures.
//! - `generation`: prefill and decode, step by step for a batch of sequences, or in one call.
//! - [`sequence`]: the state of one generation: KV cache, generated tokens, phase.
//! - [`input`] and [`output`]: what a generation takes and gives.
//! - [`sampling`]: chooses the next token: greedy, temperature, nucleus, repetition penalty.
//! - [`kv_cache`]: keys and values of the tokens of one sequence.
//! - `prefix_cache`: reuses KV caches of equal prefixes, and features of equal images.
//!
//! The networks:
//!
//! - [`language_model`]: the decoder of Qwen2.5, with grouped-query attention and SwiGLU.
//! - [`vision_encoder`]: the vision transformer with window attention, and the patch merger.
//! - [`sam`]: image encoder (Hiera), prompt encoder and mask decoder of SAM 2.
//! - [`rope`] and [`positions`]: rotary position embeddings and M-RoPE positions.
//! - [`attention`], [`layers`], [`convolutions`], [`resampling`]: what the networks are made of.
//!
//! Checkpoints and inputs:
//!
//! - [`config`]: `config.json`, from which [`tensor_shapes`] derives every tensor.
//! - [`checkpoint_index`]: the headers of the files, compared with these shapes.
//! - [`tensor_names`]: the names of tensors in all formats that are in use.
//! - [`weights`]: maps the files, quantizes, packs.
//! - [`tokenizer`]: byte-pair encoding and the chat template.
//! - [`preprocess`]: resizing, normalization and patches of pictures.
//! - [`compute`]: the device and its number type.
//!
//! **Invariants**
//!
//! - Every operation has a correct gradient, or refuses to give one: where a gradient is tracked,
//!   candle's operations are used; elsewhere, on a CPU, those of `cpu_kernels`. A linear layer that
//!   is not trained is packed also while other layers are trained, and passes gradients on.
//! - No weight is read before all headers have been compared with the shapes that the model needs.
//! - Only safetensors files are read: other formats can contain programs.

pub mod attention;
pub mod checkpoint_index;
pub mod compute;
pub mod config;
pub mod convolutions;
mod generation;
pub mod input;
pub mod kv_cache;
pub mod language_model;
pub mod layers;
pub mod model;
pub mod output;
pub mod positions;
mod prefix_cache;
pub mod preprocess;
pub mod resampling;
pub mod rope;
pub mod sam;
pub mod sampling;
pub mod sequence;
pub mod tensor_names;
pub mod tensor_shapes;
pub mod tokenizer;
pub mod vision_encoder;
pub mod weights;

pub use candle_core::{DType, Device};
pub use checkpoint_index::{CheckpointIndex, WeightsError};
pub use compute::Compute;
pub use config::{Config, ConfigError, SamConfig};
pub use generation::DecodedToken;
pub use input::ModelInput;
pub use kv_cache::KvCache;
pub use model::{CitrusV, ModelError};
pub use output::{FinishReason, Generation, Segmentation};
pub use preprocess::PixelBounds;
pub use sampling::GenerationConfig;
pub use sequence::{Phase, Sequence};
pub use tokenizer::{Message, MessageRole};
pub use weights::{Precision, Weights};
