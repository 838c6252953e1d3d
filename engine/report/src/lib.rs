//! Findings put in words and objects: DICOM SEG, SR, GSPS, SC and PDF, HL7 ORU and MDM, FHIR, JSON.
//!
//! [`mod@compose`] is the one way in; [`Writing`] is everything that it works from; [`status`] holds the one table that all encodings take their
//! status from. [`seg`], [`sr`], `narrative_sr`, `presentation_state`, [`overlay`], `encapsulated_pdf`
//! and `rejection` write objects with the pieces of [`dataset`] and `content_tree`; `messages` is
//! what [`mod@templates`] write HL7 from, `fhir` a bundle; [`narrative`] puts it in words, which [`pdf`]
//! sets in pages with [`fonts`]. `gate` reads everything back before it leaves.
//!
//! **Invariants**
//!
//! - Pure: the same findings and the same patient give the same bytes, on every try (DIN-64).
//! - Nothing leaves without saying that a machine made it, until a person has signed (OUT-03).

pub mod compose;
mod content_tree;
pub mod dataset;
mod encapsulated_pdf;
mod fhir;
pub mod fonts;
mod gate;
mod lettering;
mod messages;
pub mod narrative;
mod narrative_sr;
pub mod overlay;
pub mod pdf;
mod presentation_state;
mod recipient;
mod rejection;
pub mod returned;
pub mod seg;
pub mod sr;
pub mod status;
pub mod templates;
mod writing;

pub use compose::compose;
pub use fonts::{Fonts, PdfError};
pub use recipient::Recipient;
pub use templates::Templates;
pub use writing::{
    About, Before, Engine, ReportError, SentObject, StudyAbout, TemplateError, Writing,
};
