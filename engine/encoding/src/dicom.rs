//! DICOM data sets and files, as bytes.
//!
//! - [`header`]: the bounded reader that stands between the network and every other reader;
//! - [`charset`]: Specific Character Sets;
//! - [`coercion`]: a data set with the current identity of its patient;
//! - [`file_meta`]: the beginning of a DICOM file;
//! - [`implicit_vr`]: a data set in the transfer syntax that every receiver accepts.

pub mod charset;
pub mod coercion;
pub mod file_meta;
pub mod header;
pub mod implicit_vr;
