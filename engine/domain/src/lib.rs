//! The terms of the trade: what every other crate means by a study, an instance, an order, a
//! result.
//!
//! - [`event`]: the trail's events, one type per kind, and who and what they are about
//! - [`AeTitle`] and the UID types: identifiers, checked where they are built
//! - [`PatientId`], [`Demographics`], [`identity_graph`]: patients, and who turned out to be whom
//! - [`Order`]: imaging orders and the keys that find them
//! - [`NodeInput`] and [`NodeOutput`]: what a plugin reads and writes
//! - [`InferRequest`] and [`InferResponse`]: what a plugin asks the model
//! - [`ResultSet`]: what a run found, in the form that every report is encoded from
//! - [`OutputKind`]: what a result can be written as
//! - [`Observation`], [`later_results`]: laboratory results, and which of two reports of one holds
//! - [`row_keys`]: the keys by which receivers know the rows of a report
//! - [`ReviewState`], [`Attestation`]: what people decide about results
//! - [`RunStatus`], [`DeliveryState`], [`TaskKind`], [`QualityFlag`], [`MessageFlag`]: states,
//!   kinds and reasons that are stored, each an enum whose variants have one name ([`named_enum!`])
//!
//! Types here are values. Each is checked once, where it is built, and needs no check again: a
//! function that accepts an [`AeTitle`] cannot be given a string of seventeen characters.
//!
//! **Invariants**
//!
//! - This crate does no I/O and depends on no other crate of the workspace.
//! - What identifies a patient can be stored and sent, but not shown by mistake: its `Debug` shows
//!   nothing (SEC-37).

/// The manufacturer of the objects that this engine creates: Manufacturer (0008,0070).
pub const MANUFACTURER: &str = "Isocenter";

mod abnormal_flags;
mod ae_title;
mod algorithm;
mod artifact;
mod circumstances;
mod error_chain;
pub mod event;
pub mod identity_graph;
mod image_facts;
mod laboratory;
pub mod later_results;
mod message_type;
mod model_protocol;
mod name_likeness;
mod named;
mod network;
mod node_io;
mod order;
mod order_number;
mod output_kind;
mod patient;
mod person_name;
mod plugin_pin;
mod quality;
mod reasoning;
mod result_set;
mod result_status;
mod review;
pub mod row_keys;
mod row_source;
pub mod sop_class;
mod state;
mod stated_patient;
mod task;
mod uid;

pub use abnormal_flags::FLAG_SEPARATOR;
pub use ae_title::{AeTitle, InvalidAeTitle};
pub use algorithm::Algorithm;
pub use artifact::ArtifactRef;
pub use circumstances::{Circumstances, ObservedAt};
pub use error_chain::ErrorChain;
pub use event::{Action, Actor, ActorKind, Event, EventKind, Outcome, Subject};
pub use image_facts::{ImageFacts, PatientFacts};
pub use laboratory::{Abnormality, LabRow, NoResult, Observation};
pub use message_type::MessageType;
pub use model_protocol::{
    AnswerBox, AnswerFlaw, AnswerMask, ChatMessage, InferRequest, InferResponse,
    InvalidInferRequest, Priority, Role, RunLengths, Sampling, TokenUsage,
};
pub use network::{InvalidNetwork, Network};
pub use node_io::{
    Attachment, DocumentAbout, ExchangedDocument, KnownReport, NodeInput, NodeOutput, OrderInput,
    SeriesInput, SeriesInstance, StudyInput,
};
pub use order::{
    ACCESSION_MAX, Order, OrderAction, OrderConflict, OrderKey, OrderKind, OrderMatch,
};
pub use order_number::{Assigner, OrderNumber};
pub use output_kind::{OutputFormat, OutputKind};
pub use patient::{Demographics, DemographicsChange, PatientId};
pub use person_name::{NameGroup, PersonName};
pub use plugin_pin::PluginPin;
pub use quality::{MessageFlag, QualityFlag};
pub use reasoning::{Reasoning, ReasoningBox, ReasoningStep};
pub use result_set::{
    Amended, Code, Finding, InputInstance, Laterality, Measurement, PatientSpace, Presence, Region,
    ResultSet, Section, Segment, Segmentation, VolumeGeometry, WorkflowRef,
};
pub use result_status::ResultStatus;
pub use review::{Attestation, Meaning, Person, ReviewState, TokenHolder};
pub use row_source::{LaboratoryOrder, LaboratoryStatus, RowSource};
pub use state::{
    BlockReason, CommitmentState, CorrectionSource, DeliveryState, HoldPart, RunStatus, TokenState,
    TrailFault,
};
pub use stated_patient::{
    FiledPatient, IdentityDifference, IdentityField, OnDoubt, StatedIdentifier, StatedPatient,
};
pub use task::TaskKind;
pub use uid::{
    InvalidUid, SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid,
    TransferSyntaxUid, derived_uid, is_harmless_uid, is_uid,
};
