//! Pixels: from the files of a series to a volume in Hounsfield units, and what is cut out of it.
//!
//! Read in the order of the work: [`mod@slice`] decodes one file, [`volume`] stacks slices and refuses
//! a stack that is not regular, [`mask`] and [`components`] cut shapes out, [`quantity`] measures them.
//! Beside it lie flat pictures: [`mod@picture`] decodes them, [`resize`] fits them to what a network
//! sees, [`rle`] is how their masks are written, [`overlay`]
//! draws what was found. [`mod@returned`] reads masks that others made, with [`items`].
//!
//! **Invariants**
//!
//! - A volume is measured only if its geometry is sound: constant orientation, spacing, rows and
//!   columns, no gap, no tilt (DIN-81). Everything else is an error with a name and numbers.
//! - No size is trusted before it is multiplied out with a limit (SEC-24).

pub mod components;
pub mod display;
pub mod enclosed;
pub mod items;
pub mod mask;
pub mod overlay;
pub mod picture;
pub mod quantity;
pub mod resize;
pub mod returned;
pub mod rle;
pub mod slice;
pub mod volume;
pub mod window;

pub use mask::Mask;
pub use picture::{Picture, PictureError};
pub use rle::FlatMask;
pub use slice::{Slice, SliceError};
pub use volume::{GeometryError, Volume};
