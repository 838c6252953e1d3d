//! Measures the agreement of two results. Pure.
//!
//! - [`overlap`]: masks (Dice coefficient) and boxes (intersection over union);
//! - [`documents`]: rows that were read from laboratory reports (precision, recall, F1).

pub mod documents;
pub mod overlap;
