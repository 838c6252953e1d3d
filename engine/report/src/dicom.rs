//! DICOM objects: one module per kind of object, the pieces they share, and what checks them.
//!
//! - `dataset`: data sets element by element, and the modules that every object has.
//! - `content_tree`: the pieces of structured documents (PS3.3, C.17).
//! - `segmentation`: Segmentation and Label Map Segmentation (PS3.3, A.51).
//! - `identity`: whether an identity fits into the attributes of an object.
//! - `measurement_report`: Comprehensive 3D SR with TID 1500 (PS3.16).
//! - `narrative_report`: Enhanced SR with TID 2000 (PS3.16).
//! - `reasoning_report`: Enhanced SR with the reasoning of the model.
//! - `presentation_state`: Grayscale Softcopy Presentation State (PS3.3, A.33.1).
//! - [`secondary_capture`]: Secondary Capture (PS3.3, A.8).
//! - `encapsulated_pdf`: Encapsulated PDF (PS3.3, A.45.1).
//! - `rejection_note`: Key Object Selection that rejects what was sent before (PS3.16, TID 2010).
//! - `validation`: reads every object back before it is sent.

pub(crate) mod content_tree;
pub(crate) mod dataset;
pub(crate) mod encapsulated_pdf;
pub(crate) mod identity;
pub(crate) mod measurement_report;
pub(crate) mod narrative_report;
pub(crate) mod presentation_state;
pub(crate) mod reasoning_report;
pub(crate) mod rejection_note;
pub mod secondary_capture;
pub(crate) mod segmentation;
pub(crate) mod validation;
