//! The report for human readers: its text, and its text on pages and pictures.
//!
//! - [`narrative`]: the report as headings and lines.
//! - `reasoning`: the reasoning of the model as an annex.
//! - [`pdf`]: the narrative on the pages of an archival PDF.
//! - [`fonts`]: the fonts of pages and pictures.
//! - `lettering`: text drawn into pictures.

pub mod fonts;
pub(crate) mod lettering;
pub mod narrative;
pub mod pdf;
pub(crate) mod reasoning;
