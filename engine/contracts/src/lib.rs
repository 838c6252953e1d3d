//! What the parts of the engine ask of each other.
//!
//! Listeners hand what arrives to an [`InstanceIntake`] or a [`MessageIntake`]. The orchestrator decides, keeps bytes in an
//! [`Archive`] and everything else in a [`Store`], has nodes worked on by a [`NodeRunner`] and
//! reports taken by a [`Destination`].
//!
//! **Invariant:** traits and values only. What implements them is tied together in `server`.

mod archive;
mod commitment;
mod destination;
mod intake;
mod live;
mod model;
mod node_runner;
mod output;
mod review;
mod rows;
mod run_rows;
mod store;

pub use archive::{Archive, Incoming, Quarantined, Removable};
pub use commitment::{
    CommitmentCheck, CommitmentReport, CommitmentReporter, CommitmentRequest, CommitmentResult,
    CommitmentStore, FailureReason, ReportEnd, SopReference,
};
pub use destination::{Destination, ProbeError, SendError, Sent};
pub use domain::OutputKind;
pub use intake::{
    Admission, Answers, CommitmentIntake, Encounter, EventSink, InstanceArrival, InstanceIntake,
    Kept, MergeKind, MessageArrival, MessageEffect, MessageIntake, Refusal, RefusalReason,
};
pub use live::Live;
pub use model::{Model, ModelFault};
pub use node_runner::{NodeCall, NodeFailure, NodeRunner, PluginPin};
pub use output::{Output, Preferences, ReportForm, SegmentationForm};
pub use review::{
    DecideReview, LockChange, NewVersion, OpenReview, Returned, ReturnedPair, ReturnedWhat,
    ReviewRefusal, ReviewStep, ReviewStore, ReviewVersion, ReviewView, Reviewer,
};
pub use rows::{
    Announced, Associations, ClaimedDelivery, DeliveryEnd, DeliveryView, InstanceRecord,
    MessageKept, MessageRecord, MessageSnapshot, MessageStep, OrderSnapshot, PatientView,
    RunSnapshot, SentBefore, StudySnapshot, StudyStep, VersionPolicy, WorkKind,
};
pub use run_rows::{
    Block, ClaimedNode, NewDelivery, NewRun, NewTask, NodeChange, NodeState, RunEnd, RunRecord,
    RunStep, SeriesSnapshot, StoredInstance,
};
pub use store::{Compose, DecideMessage, DecideRun, DecideStudy, Store, StoreError};
