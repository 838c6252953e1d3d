//! Pixels: decoded files, volumes and masks, and their measurements. Pure.
//!
//! [`object_reader`] reads files of other systems, in whatever encoding the standard allows.
//!
//! From the files of a series to measurements, in the order of the work:
//! - `image_attributes`: elements of a header, and why one cannot be used;
//! - `cell_format`, `padding`, `stored_values`: from pixel cells to stored values, and which of
//!   them are no tissue;
//! - `rescale`: from stored values to Hounsfield units, or to the unit of another modality;
//! - [`mod@slice`]: decodes one file to a slice in Hounsfield units;
//! - [`volume`]: stacks slices, and refuses a stack that is not regular;
//! - [`mask`] and [`components`]: sets of voxels, connected parts, filled holes;
//! - [`bridges`]: structures taken apart where they hardly touch;
//! - [`objects`]: things that were drawn one by one, followed from slice to slice;
//! - [`laterality`]: the side of the patient on which voxels lie;
//! - [`measurement`]: volumes in mL, areas, long and short axes (`diameters`).
//!
//! Pictures of eight bits a channel:
//! - [`rendering`]: an instance as a picture, by the windows and tables of its file ([`window`],
//!   `voi`, `lookup_table`), or in its colours (`colours`, `palette`);
//! - [`mod@picture`]: PNG and JPEG; [`resize`]: resampling, to the bit as Pillow does;
//! - [`rle`]: masks of pictures, as run lengths; [`annotation`]: masks and boxes drawn into a
//!   picture.
//!
//! Objects of other systems:
//! - [`segmentation_reader`]: masks out of DICOM Segmentation objects;
//! - [`document_reader`]: texts out of structured documents;
//! - [`encapsulated_document`]: the file in an Encapsulated PDF object;
//! - [`sequence_items`]: items and texts of sequences.
//!
//! **Invariants**
//!
//! - A CT is measured only if its file states how stored values become Hounsfield units (DIN-80).
//!   Whatever leaves that open is a [`SliceError`] that quotes it, and never a slope of 1.
//! - A pixel of padding is not a number (NaN), and in no mask.
//! - A volume is measured only if its geometry is sound: constant orientation, spacing, rows and
//!   columns, no gap, no tilt (DIN-81). Everything else is a [`VolumeProblem`] with its numbers.
//! - No size from a file is trusted before its product was compared with a limit (SEC-24).

pub mod annotation;
pub mod bridges;
mod cell_format;
mod colours;
pub mod components;
mod diameters;
pub mod document_reader;
pub mod encapsulated_document;
mod image_attributes;
pub mod laterality;
mod lookup_table;
pub mod mask;
pub mod measurement;
pub mod object_reader;
pub mod objects;
mod padding;
mod palette;
pub mod picture;
pub mod rendering;
mod rescale;
pub mod resize;
pub mod rle;
#[cfg(test)]
mod sample;
pub mod segmentation_reader;
pub mod sequence_items;
pub mod slice;
mod stored_values;
mod voi;
pub mod volume;
pub mod window;

pub use image_attributes::SliceError;
pub use mask::Mask;
pub use picture::{Picture, PictureError};
pub use rle::FlatMask;
pub use slice::Slice;
pub use volume::{GeometryError, Volume, VolumeProblem};
