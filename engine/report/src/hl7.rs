//! HL7 version 2 messages: ORU^R01 with the findings, MDM with the report as a document.
//!
//! - [`templates`]: the templates of a site, and the fonts of its pages.
//! - `view`: the values that templates are filled in with.
//! - `changes`: those of what became of findings.
//! - `laboratory`: those of laboratory rows.
//! - `orders`: the orders of a message, and which rows belong to each.
//! - `validation`: reads every message back before it is sent.

pub(crate) mod changes;
pub(crate) mod laboratory;
pub(crate) mod orders;
#[cfg(test)]
mod row_tests;
pub mod templates;
pub(crate) mod validation;
pub(crate) mod view;
