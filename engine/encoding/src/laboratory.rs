//! Laboratory results: units of measurement and reference ranges.
//!
//! - `unit`: spellings of units and their UCUM codes;
//! - [`reference_range`]: whether a result lies within its reference.

pub mod reference_range;
pub mod unit;
