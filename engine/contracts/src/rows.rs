use std::collections::BTreeMap;
use std::time::Duration;

use domain::{
    Demographics, Event, ExchangedDocument, NodeOutput, Order, PatientId, SopClassUid,
    StudyInstanceUid,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use crate::review::ReviewVersion;
use crate::run_rows::{NewRun, NewTask, RunRecord, SeriesSnapshot};
use crate::{Answers, InstanceArrival, MessageArrival, Output, OutputKind, PluginPin};

/// An instance with what its header says.
#[derive(Clone, Debug)]
pub struct InstanceRecord {
    /// How it arrived.
    pub arrival: InstanceArrival,
    /// Its name as received: a UID, unless a flag says that it is malformed.
    pub instance: String,
    /// Its kind.
    pub sop_class: SopClassUid,
    /// Its series, as received.
    pub series: String,
    /// Its study, as received.
    pub study: String,
    /// SHA-256 of the data set, in hex.
    pub sha256: String,
    /// Length of the data set.
    pub bytes: u64,
    /// Whose it is; nothing if the header does not say so in characters we can read.
    pub patient: Option<PatientId>,
    /// Who that is.
    pub demographics: Demographics,
    /// Accession number (0008,0050).
    pub accession: String,
    /// Modality (0008,0060).
    pub modality: String,
    /// Whether this engine made it: Manufacturer (0008,0070).
    pub is_own: bool,
    /// Body part (0018,0015).
    pub body_part: String,
    /// Study description (0008,1030).
    pub study_description: String,
    /// Series description (0008,103E).
    pub series_description: String,
    /// Study date and time as they stand.
    pub study_date: String,
    /// Study time.
    pub study_time: String,
    /// Frame of Reference UID (0020,0052), or nothing.
    pub frame_of_reference: String,
    /// Placer order number (0040,2016), or nothing.
    pub placer: String,
    /// Filler order number (0040,2017), or nothing.
    pub filler: String,
    /// Requested Procedure ID (0040,1001), or nothing.
    pub requested_procedure: String,
    /// What becomes of it if we have another one of its name.
    pub versions: VersionPolicy,
    /// Study ID, for reports.
    pub study_id: String,
    /// What was wrong with the header and did not keep us from reading it.
    pub quality_flags: Vec<domain::QualityFlag>,
}

/// What becomes of an instance whose name we have with other content (DIN-22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionPolicy {
    /// The first one counts; the other is kept beside it and flagged.
    #[default]
    KeepFirst,
    /// The new one counts from now on; the other is kept.
    Replace,
    /// The new one is refused.
    Reject,
}

/// A message to keep.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// The engine's key of it.
    pub id: Uuid,
    /// The message and what it means.
    pub arrival: MessageArrival,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKept {
    /// It is new.
    New,
    /// We had the very same, and answered this.
    Repeated(Answers),
}

/// A study, as decisions need it.
#[derive(Clone, Debug)]
pub struct StudySnapshot {
    /// Which study.
    pub study: StudyInstanceUid,
    /// Whose it is now, after all merges.
    pub patient: Option<Uuid>,
    /// Accession number of its images.
    pub accession: String,
    /// Its description.
    pub description: String,
    /// When its first instance came.
    pub first_received: Timestamp,
    /// When its last instance came.
    pub last_received: Timestamp,
    /// Its series.
    pub series: Vec<SeriesSnapshot>,
    /// The orders that ask for it (HL7-40).
    pub orders: Vec<OrderSnapshot>,
    /// What ran on it, or runs.
    pub runs: Vec<RunSnapshot>,
    /// What was told before, by workflow: so that it is told once.
    pub told: BTreeMap<String, String>,
    /// Associations that brought instances of it.
    pub associations: Associations,
    /// What modalities say they have sent of it (storage commitment).
    pub announced: Announced,
}

/// Associations that brought instances of a study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Associations {
    /// How many have not ended.
    pub open: usize,
    /// When the last one of the others did.
    pub last_ended: Option<Timestamp>,
}

/// What modalities say they have sent of a study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// How many instances.
    pub instances: usize,
    /// How many of them have not come.
    pub missing: usize,
}

/// An order, as decisions need it.
#[derive(Clone, Debug)]
pub struct OrderSnapshot {
    /// The engine's key of it.
    pub id: Uuid,
    /// What was asked for.
    pub order: Order,
    /// For whom, after all merges.
    pub patient: Option<Uuid>,
    /// Whether it was taken back.
    pub is_cancelled: bool,
    /// The rule that found it.
    pub matched_by: domain::OrderMatch,
}

/// A run, as decisions need it.
#[derive(Clone, Debug)]
pub struct RunSnapshot {
    /// Which run.
    pub id: Uuid,
    /// The workflow's name.
    pub workflow: String,
    /// Whether it has ended.
    pub has_ended: bool,
    /// What it was started on (DIN-53).
    pub input_key: String,
    /// When the first instance came that it has not worked on.
    pub first_later: Option<Timestamp>,
    /// The first of the runs it follows, or itself.
    pub first: Uuid,
}

/// What to do about a study.
#[derive(Clone, Debug, Default)]
pub struct StudyStep {
    /// Runs to start.
    pub start: Vec<NewRun>,
    /// What a person has to look at.
    pub tasks: Vec<NewTask>,
    /// What to put on record.
    pub events: Vec<Event>,
    /// When to look again, if nothing comes meanwhile.
    pub look_again: Option<Timestamp>,
    /// What has been told by now, by workflow.
    pub told: BTreeMap<String, String>,
}

/// A message, as decisions need it.
#[derive(Clone, Debug)]
pub struct MessageSnapshot {
    /// The engine's key of it.
    pub id: Uuid,
    /// Its type, such as `ORU^R01`.
    pub message_type: domain::MessageType,
    /// Whose it is, after all merges.
    pub patient: Option<Uuid>,
    /// What it says.
    pub document: ExchangedDocument,
}

/// What to do about a message.
#[derive(Clone, Debug, Default)]
pub struct MessageStep {
    /// Runs to start.
    pub start: Vec<NewRun>,
    /// What to put on record.
    pub events: Vec<Event>,
}

/// A delivery for us to make.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// Which.
    pub id: Uuid,
    /// Its run.
    pub run: Uuid,
    /// Place in the workflow's `deliver:`.
    pub index: usize,
    /// Where to.
    pub destination: String,
    /// What.
    pub what: Vec<OutputKind>,
    /// Which try this is.
    pub attempt: i32,
    /// Transaction UID of this try, should it ask for storage commitment. Never used before.
    pub transaction: String,
}

/// Everything a report is made of, as of one moment.
#[derive(Clone, Debug)]
pub struct DeliveryView {
    /// The run.
    pub run: RunRecord,
    /// When its last node ended.
    pub concluded: Timestamp,
    /// The instances it worked on, by series.
    pub series: Vec<SeriesSnapshot>,
    /// What its nodes gave.
    pub outputs: BTreeMap<String, NodeOutput>,
    /// What worked on them.
    pub plugins: BTreeMap<String, PluginPin>,
    /// Whether a node failed.
    pub has_failures: bool,
    /// Who the patient is now (HL7-33).
    pub patient: Option<PatientView>,
    /// The orders that ask for the study.
    pub orders: Vec<OrderSnapshot>,
    /// Accession number of the images.
    pub accession: String,
    /// The message the run is about.
    pub message: Option<MessageSnapshot>,
    /// The last state that people gave the result.
    pub reviewed: Option<ReviewVersion>,
    /// Which of the run's versions this is.
    pub revision: u32,
    /// What the destination has of it.
    pub before: Option<SentBefore>,
}

/// What a destination has of a result.
#[derive(Clone, Debug)]
pub struct SentBefore {
    /// Which state people had given it then; nought, if none.
    pub version: u32,
    /// Whether it is of this run, not of the one it replaces or adds to.
    pub is_own: bool,
    /// What was sent last, without its bytes.
    pub outputs: Vec<Output>,
    /// All that was ever tried to send.
    pub tried: Vec<Output>,
}

/// A patient, as reports need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatientView {
    /// The engine's key.
    pub id: Uuid,
    /// By what the patient is known now.
    pub identifier: PatientId,
    /// Who it is.
    pub demographics: Demographics,
    /// Changes with every change of identity.
    pub version: i32,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// The destination has acknowledged all of it.
    Delivered,
    /// The destination has taken all of it, and is to confirm its safety.
    Promised,
    /// To be tried again.
    Again {
        /// What happened.
        reason: String,
        /// How long to wait.
        after: Duration,
    },
    /// Given to a person.
    Failed {
        /// What happened.
        reason: String,
        /// Whether nothing more goes to the destination until a person says so (HL7-14).
        pauses: bool,
    },
    /// Must not be sent.
    Blocked(crate::Block),
}

/// What there may be to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// A study or message to decide on.
    Assembly,
    /// A node to work on.
    Node,
    /// A delivery to make.
    Delivery,
    /// A request for storage commitment to answer.
    Commitment,
}
