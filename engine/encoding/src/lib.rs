//! Readers and writers of the formats that reach the engine as bytes.
//!
//! - [`dicom`]: data sets and files; read [`dicom::header`] first, since it stands between the
//!   network and every other reader of DICOM;
//! - [`hl7`]: character sets and escape sequences of messages;
//! - [`laboratory`]: units of measurement and reference ranges;
//! - [`model_answer`]: the answers of a vision-language model;
//! - [`thought_steps`]: the steps of its reasoning, each with the boxes it cites;
//! - [`report_text`]: the parts of a report in prose;
//! - [`canonical_json`]: JSON in one form, to be signed;
//! - [`file_type`]: what kind of file bytes are;
//! - [`bits`]: masks with one bit for each voxel;
//! - [`decoded_text`]: what decoding a character set gives.
//!
//! Everything here reads bytes of an untrusted sender, and returns a value or an error.
//!
//! **Invariants**
//!
//! - Nothing is allocated because a length field says so: only what has arrived takes memory.
//! - No input makes a function of this crate panic, recurse without bound, or run long.
//! - No I/O except reading from the source that is passed in.

pub mod bits;
pub mod canonical_json;
pub mod decoded_text;
pub mod dicom;
pub mod file_type;
pub mod hl7;
pub mod laboratory;
pub mod model_answer;
pub mod report_text;
pub mod thought_steps;
