use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Finding, LabRow, Observation, Region, Section, Segmentation, SeriesInstanceUid, SopClassUid,
    SopInstanceUid, StudyInstanceUid,
};

/// What a node is given to work on. No field of it says who the patient is; words of others, in orders,
/// reports and documents, may.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeInput {
    /// The study, if the run is about one.
    pub study: Option<StudyInput>,
    /// The laboratory results or document, if the run is about a message.
    pub document: Option<ExchangedDocument>,
    /// What was asked for, if the study was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderInput>,
    /// What people have reported of the patient, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<KnownReport>,
    /// What the nodes before this one found, by their name.
    pub earlier: BTreeMap<String, NodeOutput>,
}

/// What was asked for, as plugins see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderInput {
    /// Words for it.
    pub procedure: String,
    /// Why: history and question.
    pub reason: String,
    /// `S` (stat), `R` (routine) and others of table 0485.
    pub priority: String,
}

/// A report that somebody stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownReport {
    /// Whether it is of the study of the run; if not, it is of an earlier one.
    pub is_of_study: bool,
    /// Date of the study, `YYYYMMDD`, as far as it is known.
    pub date: String,
    /// What it says.
    pub text: String,
}

/// A study, as plugins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyInput {
    /// Which study.
    pub study: StudyInstanceUid,
    /// Its series.
    pub series: Vec<SeriesInput>,
}

/// A series, as plugins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesInput {
    /// Which series.
    pub series: SeriesInstanceUid,
    /// Kind of equipment, (0008,0060).
    pub modality: String,
    /// Its instances, in no particular order.
    pub instances: Vec<SeriesInstance>,
}

/// An instance, as plugins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesInstance {
    /// Which instance.
    pub instance: SopInstanceUid,
    /// What kind of object.
    pub sop_class: SopClassUid,
}

/// What came in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangedDocument {
    /// Message type and event, such as `ORU^R01`.
    pub message_type: String,
    /// Its observations, in order.
    pub observations: Vec<Observation>,
    /// What a document message says of its document (TXA).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<DocumentAbout>,
    /// Files that came in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

impl ExchangedDocument {
    /// What somebody stands for in words: observations that are text, and final or corrected (tables 0125, 0085).
    pub fn final_words(&self) -> String {
        let is_meant = |it: &&Observation| {
            matches!(it.value_type.as_str(), "TX" | "FT" | "ST" | "CF")
                && matches!(it.status.as_str(), "F" | "C")
        };
        let words = self.observations.iter().filter(is_meant).map(|it| it.value.as_str());
        words.collect::<Vec<_>>().join("\n")
    }
}

/// What a document message says of its document (HL7 v2.5.1, 9.6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentAbout {
    /// TXA-2: `DI`, `LP`, …
    pub kind: String,
    /// TXA-12: its unique number.
    pub number: String,
    /// TXA-13: the number of the document it replaces or adds to.
    pub parent: String,
    /// TXA-17: `IN`, `DO`, `PA`, `AU`, `LA`.
    pub completion: String,
    /// TXA-19: `AV`, `CA`, `OB`, `UN`.
    pub availability: String,
}

/// A file that came in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// What it is of, OBX-3.2.
    pub name: String,
    /// Its type, such as `application/pdf`.
    pub media_type: String,
    /// Its bytes, in base64 as they came, without line breaks.
    pub base64: String,
}

/// What a node found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeOutput {
    /// In words and codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Outlines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segmentations: Vec<Segmentation>,
    /// Boxes on single images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// Rows of a laboratory report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub laboratory: Vec<LabRow>,
    /// Prose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
}

impl NodeOutput {
    /// Takes in what another node found.
    pub fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.segmentations.extend(other.segmentations);
        self.regions.extend(other.regions);
        self.laboratory.extend(other.laboratory);
        self.sections.extend(other.sections);
    }

    /// The files it speaks of.
    pub fn artifacts(&self) -> impl Iterator<Item = &ArtifactRef> {
        self.segmentations.iter().flat_map(|it| &it.segments).map(|it| &it.mask)
    }
}

/// Something a plugin made that is too large for words, kept by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// SHA-256 of the bytes, in hex.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
}
