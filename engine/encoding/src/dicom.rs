//! DICOM data sets and files, as bytes.
//!
//! - [`header`]: the bounded reader that stands between the network and every other reader;
//! - [`charset`]: Specific Character Sets;
//! - [`coercion`]: a data set with the current identity of its patient;
//! - [`date_time`]: dates and times;
//! - [`deflation`]: deflated data sets;
//! - [`file_meta`]: the beginning of a DICOM file;
//! - [`implicit_vr`]: a data set in the transfer syntax that every receiver accepts;
//! - [`rewriting`]: a data set without what only some readers understand.

pub mod charset;
pub mod coercion;
pub mod date_time;
pub mod deflation;
pub mod file_meta;
pub mod header;
pub mod implicit_vr;
pub mod rewriting;
