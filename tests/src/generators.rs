//! Messages and images of every shape that senders make, with what they state. A seed determines
//! each of them.
//!
//! A generator returns what it has made together with its meaning, so that a test compares what the
//! engine understood with what was meant, and not with a second reader.

pub mod dicom;
pub mod hl7;
pub mod laboratory;
pub mod pictures;
mod story;

pub use story::Story;
