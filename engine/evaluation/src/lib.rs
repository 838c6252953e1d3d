//! How well two results agree. Pure.
//!
//! [`overlap`] compares masks and boxes.

pub mod overlap;
