//! What bytes mean: DICOM headers and character sets, HL7 delimiters and escapes, units and
//! reference ranges of laboratories, canonical JSON, reports in prose, the answers of a vision-language model.
//!
//! Everything here takes bytes of a stranger and gives a value or says what is wrong. Read
//! [`dicom_header`] first: it stands between the network and every other reader of DICOM.
//!
//! **Invariants**
//!
//! - Nothing is allocated because a length field says so: only what has arrived takes memory.
//! - No input makes a function of this crate panic, recurse without end, or run long.
//! - No I/O but reading from what is handed in.

pub mod bits;
pub mod dicom_charset;
pub mod dicom_coercion;
pub mod dicom_header;
pub mod file_meta;
pub mod hl7_charset;
pub mod hl7_escape;
mod iso_2022;
pub mod jcs;
pub mod model_answer;
pub mod reference_range;
pub mod report_text;
pub mod unit;
