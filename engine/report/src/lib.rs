//! Findings put in words and objects: DICOM SEG and SR, HL7 ORU with PDF or text, JSON.
//!
//! [`mod@compose`] is the one way in; [`status`] holds the one table that all encodings take their
//! status from. [`seg`], [`sr`] and [`oru`] write what it asks for with the pieces of [`dataset`];
//! [`narrative`] puts it in words, which [`pdf`] sets in pages.
//!
//! **Invariants**
//!
//! - Pure: the same findings and the same patient give the same bytes, on every try (DIN-64).
//! - Nothing leaves without saying that a machine made it, until a person has signed (OUT-03).

pub mod compose;
pub mod dataset;
pub mod narrative;
pub mod oru;
pub mod pdf;
pub mod seg;
pub mod sr;
pub mod status;

pub use compose::{About, Engine, ReportError, StudyAbout, compose};
pub use oru::{MessageHeader, ReportForm, TemplateError, Templates};
pub use pdf::{Fonts, PdfError};
