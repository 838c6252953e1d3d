//! What benches share: who is measured beside us, what is sent, and how numbers are told.

mod dicom;
mod peer;
mod tell;

pub use dicom::{Load, renumbered, store_all};
pub use peer::Receiver;
pub use tell::{Series, median, plot, table};
