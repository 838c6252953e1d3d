//! Received instances: how they arrived, what is stored of them, and what became of them.

use async_trait::async_trait;
use domain::{Demographics, PatientId, QualityFlag, SopClassUid};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StoreError;

/// How an instance arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceArrival {
    /// AE title of the sender.
    pub calling_ae: String,
    /// AE title of the engine that the sender called.
    pub called_ae: String,
    /// Network address of the sender.
    pub address: String,
    /// The association that it arrived on.
    pub association: Uuid,
    /// Affected SOP Class UID (0000,0002) of the request.
    pub sop_class: String,
    /// Affected SOP Instance UID (0000,1000) of the request.
    pub sop_instance: String,
    /// Transfer syntax of the presentation context.
    pub transfer_syntax: String,
}

/// An instance with what its header states, to be stored.
#[derive(Clone, Debug)]
pub struct InstanceRecord {
    /// How it arrived.
    pub arrival: InstanceArrival,
    /// SOP Instance UID (0008,0018) as received: valid unless a flag says that it is malformed.
    pub instance: String,
    /// SOP Class UID (0008,0016).
    pub sop_class: SopClassUid,
    /// Series Instance UID (0020,000E) as received.
    pub series: String,
    /// Study Instance UID (0020,000D) as received.
    pub study: String,
    /// SHA-256 of the data set, in hex.
    pub sha256: String,
    /// Length of the data set in bytes.
    pub bytes: u64,
    /// The patient; `None` if the header names nobody in characters that can be decoded.
    pub patient: Option<PatientId>,
    /// Name, birth date and sex of the patient.
    pub demographics: Demographics,
    /// Accession Number (0008,0050), or empty.
    pub accession: String,
    /// What assigned the accession number (0008,0051), or empty.
    pub accession_issuer: String,
    /// Accession numbers of the requests that it answers (0040,0275): one study may answer several.
    pub requested_accessions: Vec<String>,
    /// Modality (0008,0060).
    pub modality: String,
    /// Whether this engine made it, by Manufacturer (0008,0070).
    pub is_own: bool,
    /// Body Part Examined (0018,0015), or empty.
    pub body_part: String,
    /// Study Description (0008,1030), or empty.
    pub study_description: String,
    /// Series Description (0008,103E), or empty.
    pub series_description: String,
    /// Study Date (0008,0020) as received.
    pub study_date: String,
    /// Study Time (0008,0030) as received.
    pub study_time: String,
    /// Frame of Reference UID (0020,0052), or empty.
    pub frame_of_reference: String,
    /// Placer order number (0040,2016), or empty.
    pub placer: String,
    /// Filler order number (0040,2017), or empty.
    pub filler: String,
    /// What assigned the placer order number (0040,0026), or empty.
    pub placer_authority: String,
    /// What assigned the filler order number (0040,0027), or empty.
    pub filler_authority: String,
    /// Requested Procedure ID (0040,1001), or empty.
    pub requested_procedure: String,
    /// What to do if its UID is known with other content.
    pub versions: VersionPolicy,
    /// Study ID (0020,0010), or empty.
    pub study_id: String,
    /// Defects of the header that did not keep it from being read.
    pub quality_flags: Vec<QualityFlag>,
}

/// What becomes of an instance whose UID is known with other content (DIN-22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionPolicy {
    /// The first one stays in use. The new one is stored beside it and flagged.
    #[default]
    KeepFirst,
    /// The new one is used from now on. The first one stays stored.
    Replace,
    /// The new one is refused.
    Reject,
}

/// What became of an instance that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceOutcome {
    /// It is new.
    New,
    /// The very same was stored before (DIN-22).
    Identical,
    /// Its UID is known with other content. It was stored beside that and flagged (DIN-22).
    OtherVersion,
    /// Its UID is known with other content, and the site accepts no second version: nothing was
    /// stored.
    VersionRefused,
    /// It is stored, but contradicts its study or series, or has a malformed UID, and is not used
    /// (DIN-61): every flag that says so.
    Flagged(Vec<QualityFlag>),
}

/// Stores instances.
#[async_trait]
pub trait InstanceStore: Send + Sync {
    /// Stores an instance, and what it states about its series, study and patient.
    async fn store_instance(&self, record: InstanceRecord) -> Result<InstanceOutcome, StoreError>;

    /// Records that an association has ended; with `None`, all that were open when the engine
    /// started.
    async fn end_association(&self, association: Option<Uuid>) -> Result<(), StoreError>;
}
