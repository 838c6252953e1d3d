//! The words of the trade: what every other crate means by a study, an instance, an order, a result.
//!
//! Types here are values. Each is checked once, where it is built, and needs no check again: a
//! function that takes an [`AeTitle`] cannot be handed a string of seventeen characters.
//!
//! **Invariants**
//!
//! - This crate does no I/O and depends on no other crate of the workspace.
//! - What identifies a patient can be stored and sent, but not shown by mistake: its `Debug` says
//!   nothing (SEC-37).

/// Who makes what this engine makes, as objects say it: Manufacturer (0008,0070).
pub const MANUFACTURER: &str = "Isocenter";

mod ae_title;
mod error_chain;
mod event;
pub mod identity_graph;
mod inference;
mod laboratory;
mod node_io;
mod order;
mod patient;
mod result_set;
mod review;
mod uid;

pub use ae_title::{AeTitle, InvalidAeTitle};
pub use error_chain::ErrorChain;
pub use event::{Action, Actor, Event, Outcome, Subject};
pub use inference::{
    AnswerBox, AnswerMask, InferAnswer, InferRequest, InvalidQuestion, Priority, Role, Runs,
    Sampling, Utterance,
};
pub use laboratory::{Abnormality, LabRow, Observation};
pub use node_io::{
    ArtifactRef, Attachment, DocumentAbout, ExchangedDocument, KnownReport, NodeInput, NodeOutput,
    OrderInput, SeriesInput, SeriesInstance, StudyInput,
};
pub use order::{Order, OrderAction, OrderKey};
pub use patient::{Demographics, DemographicsChange, PatientId};
pub use result_set::{
    Algorithm, Amended, Code, Finding, InputInstance, Measurement, PatientSpace, Presence, Region,
    ResultSet, ResultStatus, Section, Segment, Segmentation, VolumeGeometry, WorkflowRef,
};
pub use review::{Attestation, Meaning, Person, ReviewState};
pub use uid::{
    InvalidUid, SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid,
    TransferSyntaxUid, derived_uid, is_harmless_uid,
};
