//! What a model is trained and evaluated on: items, and datasets of them.
//!
//! - [`item`]: one item (a conversation with its pictures, masks and boxes), read and written as the
//!   JSON Lines of ms-swift (PAP-56);
//! - [`placeholders`]: the boxes of an item as text, scaled to the picture that the model sees;
//! - [`manifest`]: what a dataset is made of, with digests, licence and patients;
//! - [`dataset`]: a dataset in a folder, written, read and verified;
//! - [`from_masks`]: a dataset out of two folders, of pictures and of masks;
//! - [`swift`]: a dataset for ms-swift, with its masks as files.
//!
//! **Invariants**
//!
//! - A patient is in one split only.
//! - An item has as many masks as `[SEG]`, and as many boxes and pictures as places for them.
//! - What a line of JSON has beyond this form is refused by its name, and never dropped.

pub mod dataset;
pub mod from_masks;
pub mod item;
pub mod manifest;
pub mod placeholders;
mod region;
pub mod swift;
mod wire;

pub use dataset::{Dataset, DatasetError, DatasetWriter};
pub use domain::Role;
pub use item::{Item, ItemError, ItemMask, Message, Objects};
pub use manifest::{About, Manifest, Split};
pub use region::Region;
