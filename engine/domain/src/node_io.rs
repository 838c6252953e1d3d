//! What a plugin reads and writes: the input and the output of a node.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ArtifactRef, Assigner, Finding, ImageFacts, LabRow, MessageFlag, NoResult, Observation,
    OrderNumber, PatientFacts, Reasoning, Region, Section, Segmentation, SeriesInstanceUid,
    SopClassUid, SopInstanceUid, StatedPatient, StudyInstanceUid,
};

/// The input of a node. No field identifies the patient; the free text of orders, reports and
/// documents may.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeInput {
    /// The study, if the run is about one.
    pub study: Option<StudyInput>,
    /// The laboratory results or document, if the run is about a message.
    pub document: Option<ExchangedDocument>,
    /// Age and sex of the patient whom the message of the run is filed under, as far as they are
    /// known: the age at the time of the message. For a study, they are those of its headers.
    #[serde(default)]
    pub patient: PatientFacts,
    /// The order, if the study was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderInput>,
    /// Earlier reports about the patient that a person is responsible for, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<KnownReport>,
    /// The outputs of the nodes before this one, by name.
    pub earlier: BTreeMap<String, NodeOutput>,
}

/// The order of a study, as plugins see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderInput {
    /// Description of the requested procedure.
    pub procedure: String,
    /// Clinical history and question.
    pub reason: String,
    /// Priority: `S` (stat), `R` (routine) and others of table 0485.
    pub priority: String,
}

/// An earlier report that a person is responsible for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownReport {
    /// Whether it is about the study of the run; otherwise it is about an earlier one.
    pub is_of_study: bool,
    /// Date of the study, `YYYYMMDD`, as far as it is known.
    pub date: String,
    /// The text of the report.
    pub text: String,
}

/// A study, as plugins see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyInput {
    /// Study Instance UID.
    pub study: StudyInstanceUid,
    /// The series of the study.
    pub series: Vec<SeriesInput>,
    /// What the headers of the study state about its patient.
    #[serde(default)]
    pub patient: PatientFacts,
    /// What the headers of the images state about them. An image whose header could not be read has
    /// none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<SopInstanceUid, ImageFacts>,
}

/// A series, as plugins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesInput {
    /// Series Instance UID.
    pub series: SeriesInstanceUid,
    /// Modality (0008,0060).
    pub modality: String,
    /// The instances of the series, in no particular order.
    pub instances: Vec<SeriesInstance>,
}

/// An instance, as plugins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesInstance {
    /// SOP Instance UID.
    pub instance: SopInstanceUid,
    /// SOP Class UID.
    pub sop_class: SopClassUid,
}

/// The content of a message: observations, and files with their description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangedDocument {
    /// Message type and event, such as `ORU^R01`.
    pub message_type: String,
    /// The observations, in order.
    pub observations: Vec<Observation>,
    /// The description of the document in a document message (TXA).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<DocumentAbout>,
    /// The files that the message carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// What is unusual about its files, as the listener found it.
    #[serde(skip)]
    pub flags: Vec<MessageFlag>,
}

impl ExchangedDocument {
    /// The observations that have a result, by their status (HL7-60).
    pub fn results(&self) -> impl Iterator<Item = &Observation> {
        self.observations.iter().filter(|it| it.no_result().is_none())
    }

    /// The observations that report a result or take one back. Conditions of workflows count these:
    /// a message that only takes back has to be seen, and one that only announces, or points to a
    /// document elsewhere, has not.
    pub fn reported(&self) -> impl Iterator<Item = &Observation> {
        let reports = |it: &&Observation| {
            it.is_reported || it.no_result().is_none_or(NoResult::is_withdrawal)
        };
        self.observations.iter().filter(reports).filter(|it| !it.is_pointer())
    }

    /// The laboratory's numbers of the orders that the observations answer.
    pub fn fillers(&self) -> BTreeSet<&OrderNumber> {
        self.observations.iter().filter_map(|it| it.filler.as_ref()).collect()
    }

    /// The same document, with the authorities of order numbers under the names that a site gives
    /// them.
    #[must_use]
    pub fn with_authorities_named(mut self, name_of: impl Fn(&str) -> String) -> Self {
        for observation in &mut self.observations {
            let filler = observation.filler.take();
            observation.filler = filler.map(|it| it.with_authority_named(&name_of));
            let placer = observation.placer.take();
            observation.placer = placer.map(|it| it.with_authority_named(&name_of));
        }
        self
    }

    /// The same document, with `sender` as the assigner of the order numbers of which none is known.
    #[must_use]
    pub fn with_numbers_of(mut self, sender: &Assigner) -> Self {
        let numbers = self.observations.iter_mut().flat_map(|it| [&mut it.filler, &mut it.placer]);
        let unassigned = numbers.flatten().filter(|it| it.assigner == Assigner::Unknown);
        unassigned.for_each(|it| it.assigner = sender.clone());
        self
    }

    /// The text that a person is responsible for: observations of a text type whose status is final
    /// or corrected (tables 0125, 0085).
    pub fn final_words(&self) -> String {
        let is_meant = |it: &&Observation| {
            matches!(it.value_type.as_str(), "TX" | "FT" | "ST" | "CF")
                && matches!(it.status.as_str(), "F" | "C")
        };
        let words = self.observations.iter().filter(is_meant).map(|it| it.value.as_str());
        words.collect::<Vec<_>>().join("\n")
    }
}

/// The description of a document (TXA; HL7 v2.5.1, 9.6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentAbout {
    /// Document type, TXA-2: `DI`, `LP`, …
    pub kind: String,
    /// Unique document number, TXA-12.
    pub number: String,
    /// Number of the document that it replaces or adds to, TXA-13.
    pub parent: String,
    /// Completion status, TXA-17: `IN`, `DO`, `PA`, `AU`, `LA`.
    pub completion: String,
    /// Availability status, TXA-19: `AV`, `CA`, `OB`, `UN`.
    pub availability: String,
}

/// A file that a message carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Name of the observation, OBX-3.2.
    pub name: String,
    /// Media type, such as `application/pdf`.
    pub media_type: String,
    /// The bytes in base64, as received, without line breaks.
    pub base64: String,
}

/// The output of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeOutput {
    /// Findings in text and codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Segmentations of images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segmentations: Vec<Segmentation>,
    /// Boxes on single images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// Rows of a laboratory report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub laboratory: Vec<LabRow>,
    /// Parts of a report in prose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// How models came to it: explanation, no findings (OUT-41).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
    /// The patients whom the pages of documents name. The engine compares them with the one whom the
    /// documents are filed under, and with each other, and keeps none of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stated_patients: Vec<StatedPatient>,
}

impl NodeOutput {
    /// Adds the output of another node.
    pub fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.segmentations.extend(other.segmentations);
        self.regions.extend(other.regions);
        self.laboratory.extend(other.laboratory);
        self.sections.extend(other.sections);
        self.reasoning.extend(other.reasoning);
        self.stated_patients.extend(other.stated_patients);
    }

    /// The artifacts that the output refers to.
    pub fn artifacts(&self) -> impl Iterator<Item = &ArtifactRef> {
        self.segmentations.iter().flat_map(|it| &it.segments).map(|it| &it.mask)
    }
}
