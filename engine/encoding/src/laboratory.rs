//! Laboratory results: units of measurement and reference ranges.
//!
//! - `unit`: spellings of units and their UCUM codes;
//! - [`reference_range`]: whether a result lies within its reference;
//! - [`patient_range`]: the part of a reference that holds for the sex and age of a patient.

pub mod patient_range;
pub mod reference_range;
pub mod unit;
