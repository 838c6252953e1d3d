//! What the parts of the engine ask of each other.
//!
//! Listeners hand what arrives to an [`Intake`]. The orchestrator decides, keeps bytes in an
//! [`Archive`] and everything else in a [`Store`], has nodes worked on by a [`NodeRunner`] and
//! reports taken by a [`Destination`].
//!
//! **Invariant:** traits and values only. What implements them is tied together in `server`.

mod archive;
mod commitment;
mod destination;
mod intake;
mod live;
mod node_runner;
mod rows;
mod store;

pub use archive::{Archive, Incoming, Quarantined};
pub use commitment::{
    CommitmentCheck, CommitmentReport, CommitmentReporter, CommitmentRequest, CommitmentResult,
    CommitmentStore, FailureReason, ReportEnd, SopReference,
};
pub use destination::{Destination, DestinationKind, Output, OutputKind, SendError, Sent};
pub use intake::{
    Answers, Encounter, InstanceArrival, Intake, Kept, MergeKind, MessageArrival, MessageEffect,
    Refusal, RefusalReason,
};
pub use live::Live;
pub use node_runner::{NodeCall, NodeFailure, NodeRunner, PluginPin};
pub use rows::{
    Announced, Associations, ClaimedDelivery, ClaimedNode, DeliveryEnd, DeliveryView,
    InstanceRecord, MessageKept, MessageRecord, MessageSnapshot, MessageStep, NewDelivery, NewRun,
    NewTask, NodeChange, NodeState, OrderSnapshot, PatientView, RunEnd, RunRecord, RunSnapshot,
    RunStep, SeriesSnapshot, StoredInstance, StudySnapshot, StudyStep, VersionPolicy, WorkKind,
};
pub use store::{Compose, DecideMessage, DecideRun, DecideStudy, Store, StoreError};
