//! Encodes findings: DICOM objects, HL7 messages, FHIR bundles, PDF and JSON.
//!
//! - [`compose()`]: the one entry. It encodes the kinds of output that a delivery requests.
//! - [`ReportInput`]: everything that an output is encoded from.
//! - [`Language`]: the language of a text, and the label of what nobody has signed in that of the site.
//! - [`status`]: the one table from which every encoding takes its status.
//! - [`dicom`]: segmentations, structured reports, presentation states, captures, PDF objects.
//! - [`hl7`]: messages and their templates.
//! - `fhir`: the transaction bundle.
//! - [`layout`]: the report as text, pages and pictures.
//! - `validation`: reads every output back before it is sent.
//!
//! **Invariants**
//!
//! - Pure: the same findings and the same patient give the same bytes, on every attempt (DIN-64).
//! - Every output states that a machine made it, until a person has signed (OUT-03).

mod compose;
pub mod dicom;
mod fhir;
#[cfg(test)]
mod fixture;
pub mod hl7;
mod input;
mod language;
pub mod layout;
mod recipient;
pub mod status;
mod validation;

pub use compose::compose;
pub use hl7::templates::Templates;
pub use input::{
    Engine, PreviousDelivery, ReportContext, ReportError, ReportInput, SentObject,
    StudyDescription, TakenOut, TemplateError,
};
pub use language::Language;
pub use layout::fonts::{Fonts, PdfError};
pub use recipient::Recipient;
