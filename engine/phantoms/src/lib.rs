//! Phantoms: generated chest radiographs and CT volumes of which everything is known.
//!
//! ```
//! let phantom = phantoms::radiograph(7, 128);
//! assert_eq!(phantom.grey.len(), 128 * 128);
//! assert!(phantom.organs.iter().any(|it| it.organ == phantoms::Organ::Heart));
//! ```
//!
//! A phantom looks like a simple drawing of a body, not like a patient: it shows that a network
//! finds what is there, names it and points at it, and nothing about its value for patients.
//!
//! - [`mod@radiograph`] draws a frontal chest, [`mod@ct`] an axial volume, both as [`Phantom`]s: a
//!   picture, the masks of its organs, its lesions with kind, side and mask;
//! - `report` words a phantom in the format of the paper, `questions` asks about it, in English and
//!   Chinese (`words`);
//! - [`items`] makes training items of it, [`corpus`] a dataset of many;
//! - [`dicom`] writes it as the files of a study, with an order and a person (`person`);
//! - [`cylinders`] is the CT of the demonstration: a body of cylinders, whose volumes are known.
//!
//! **Invariants**
//!
//! - The same seed gives the same bytes on every machine: the arithmetic is that of integers, and of
//!   floating point with the operations that IEEE 754 rounds exactly (`random`, `frame`).
//! - What is drawn of an organ or lesion lies in its mask, and nothing else of it.
//! - A report tells every lesion that has a mask, and no other.

mod anatomy;
mod cloud;
pub mod corpus;
pub mod ct;
pub mod cylinders;
pub mod dicom;
mod frame;
pub mod items;
mod letters;
mod look;
mod person;
mod phantom;
mod questions;
pub mod radiograph;
mod random;
mod report;
mod shape;
mod words;

pub use anatomy::{LesionKind, Organ, Side, Zone};
pub use ct::ct_slice;
pub use person::{Order, Person};
pub use phantom::{DrawnOrgan, Lesion, Phantom, View, box_of};
pub use questions::{Question, QuestionKind, questions};
pub use radiograph::radiograph;
pub use random::Random;
pub use report::{Report, report};
pub use words::Language;
