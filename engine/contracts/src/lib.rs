//! What the parts of the engine ask of each other: traits, and the values that cross.
//!
//! By aggregate:
//!
//! - `intake`: what listeners hand to the engine.
//! - `instance`, `message`: what was received, and how it is stored.
//! - `snapshot`: series, orders and messages as decisions and reports see them.
//! - `study`: studies as decisions see them, and what is decided about studies and messages.
//! - `run`, `run_step`: runs, their nodes and their queue; what an event changes in a run.
//! - `review`: what people see of results, and what they decide.
//! - `correction`: corrections that people made outside of the engine.
//! - `delivery`, `output`, `destination`: what is sent, in which form, and to whom.
//! - `commitment`: storage commitment.
//! - `trail`, `notification`, `store_error`: what all stores share.
//! - `archive`: files by their content.
//! - `node_runner`, `model`: what works on nodes.
//! - `decoder`: what decodes files of other systems.
//! - `live`: values that are replaced while others use them.
//!
//! A store trait belongs to one aggregate. Each of its functions is one transaction, which also
//! records the events of what it changes.
//!
//! **Invariant:** traits and values only. `server` ties together what implements them.

mod archive;
mod commitment;
mod correction;
mod decoder;
mod delivery;
mod destination;
mod instance;
mod intake;
mod live;
mod message;
mod model;
mod node_runner;
mod notification;
mod output;
mod review;
mod run;
mod run_step;
mod snapshot;
mod store_error;
mod study;
mod trail;

pub use archive::{Archive, Incoming, Quarantined, Removable};
pub use commitment::{
    CommitmentAnswer, CommitmentCheck, CommitmentEvent, CommitmentGap, CommitmentReport,
    CommitmentReporter, CommitmentRequest, CommitmentResult, CommitmentStore, FailedReference,
    FailureReason, ReferenceToCheck, ReportEnd, SopReference, StoredReference, describe_gaps,
};
pub use correction::{
    ComposedObject, CorrectionCandidate, CorrectionContent, CorrectionPair, CorrectionStore,
};
pub use decoder::{DecodeError, DecodedPicture, Decoder, ReceivedDocument, ReceivedSegment};
pub use delivery::{
    AtFault, ClaimedDelivery, Compose, ComposeFailure, ComposedReport, DELIVERY_WAIT_MAX,
    DeliveryEnd, DeliveryStore, DeliveryView, PatientView, SentBefore,
};
pub use destination::{Destination, ProbeError, SendError, Sent};
pub use domain::{OutputKind, PluginPin};
pub use instance::{
    InstanceArrival, InstanceOutcome, InstanceRecord, InstanceStore, VersionPolicy,
};
pub use intake::{
    Admission, Answers, AuthoritiesAsWritten, CommitmentIntake, Encounter, EventSink,
    InstanceIntake, MergeKind, MessageArrival, MessageEffect, MessageIntake, PatientAuthorities,
    Refusal, RefusalReason,
};
pub use live::Live;
pub use message::{MessageOutcome, MessageRecord, MessageStore};
pub use model::{Model, ModelFault};
pub use node_runner::{NodeCall, NodeFailure, NodeRunner};
pub use notification::{Notifications, WorkKind};
pub use output::{Output, Preferences, ReportForm, SegmentationForm};
pub use review::{
    DecideReview, LockChange, NewVersion, OpenReview, ReviewChange, ReviewLock, ReviewRefusal,
    ReviewStep, ReviewStore, ReviewVersion, ReviewView, Reviewer, StandingResult,
};
pub use run::{ClaimedNode, DecideRun, InputKey, NewRun, NodeAttempt, RunRecord, RunStore};
pub use run_step::{Block, NewDelivery, NewTask, NodeChange, NodeState, RunEnd, RunStep};
pub use snapshot::{
    EarlierResult, MessageSnapshot, OrderSnapshot, ResultHistory, SeriesSnapshot, StoredInstance,
};
pub use store_error::StoreError;
pub use study::{
    Announced, AssemblyStore, Associations, DecideMessage, DecideStudy, MessageStep, RunSnapshot,
    StudySnapshot, StudyStep, WorkflowStanding,
};
pub use trail::TrailStore;
