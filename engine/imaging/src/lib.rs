//! Pixels: decoded files, volumes and masks, and their measurements. Pure.
//!
//! From the files of a series to measurements, in the order of the work:
//! - [`mod@slice`]: decodes one file to a slice in Hounsfield units;
//! - [`volume`]: stacks slices, and refuses a stack that is not regular;
//! - [`mask`] and [`components`]: sets of voxels, connected parts, filled holes;
//! - [`measurement`]: volumes in mL, areas and longest diameters.
//!
//! Pictures of eight bits a channel:
//! - [`rendering`]: an instance as a picture, by the window of its file ([`window`]);
//! - [`mod@picture`]: PNG and JPEG; [`resize`]: resampling, to the bit as Pillow does;
//! - [`rle`]: masks of pictures, as run lengths; [`annotation`]: masks and boxes drawn into a
//!   picture.
//!
//! Objects of other systems:
//! - [`segmentation_reader`]: masks out of DICOM Segmentation objects;
//! - [`encapsulated_document`]: the file in an Encapsulated PDF object;
//! - [`sequence_items`]: items and texts of sequences.
//!
//! **Invariants**
//!
//! - A volume is measured only if its geometry is sound: constant orientation, spacing, rows and
//!   columns, no gap, no tilt (DIN-81). Everything else is a [`VolumeProblem`] with its numbers.
//! - No size from a file is trusted before its product was compared with a limit (SEC-24).

pub mod annotation;
pub mod components;
pub mod encapsulated_document;
pub mod mask;
pub mod measurement;
pub mod picture;
pub mod rendering;
pub mod resize;
pub mod rle;
pub mod segmentation_reader;
pub mod sequence_items;
pub mod slice;
pub mod volume;
pub mod window;

pub use mask::Mask;
pub use picture::{Picture, PictureError};
pub use rle::FlatMask;
pub use slice::{Slice, SliceError};
pub use volume::{GeometryError, Volume, VolumeProblem};
