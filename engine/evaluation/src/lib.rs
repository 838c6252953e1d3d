//! How well two results agree. Pure.
//!
//! [`overlap`] compares masks and boxes, [`documents`] what was read of laboratory reports.

pub mod documents;
pub mod overlap;
