//! What benches share: who is measured beside us, what is sent, and how numbers are told.

mod dicom;
mod history;
mod large;
mod messages;
mod peer;
mod tell;

pub use dicom::{Load, renumbered, store_all};
pub use history::fill;
pub use large::{Slow, store_large, store_large_at_once};
pub use messages::{Acknowledger, acknowledge_all};
pub use peer::Receiver;
pub use tell::{Series, median, percentile, plot, table};
