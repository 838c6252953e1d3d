//! HL7 v2 messages, as bytes.
//!
//! - [`charset`]: the character sets of MSH-18;
//! - [`escape`]: delimiters and escape sequences.

pub mod charset;
pub mod escape;
