use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ArtifactRef, LabRow, SeriesInstanceUid, SopClassUid, SopInstanceUid};

/// What one run concludes (OUT-01). Every encoding is a pure function of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultSet {
    /// The run.
    pub run: Uuid,
    /// The workflow it followed.
    pub workflow: WorkflowRef,
    /// How far it may be trusted.
    pub status: ResultStatus,
    /// When the last node had ended.
    pub concluded: Timestamp,
    /// How often it was sent before, under another identity of the patient (HL7-34).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    /// The result of an earlier run that it adds to or replaces (DIN-52).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amends: Option<Amended>,
    /// What was found, in words and codes.
    pub findings: Vec<Finding>,
    /// What was outlined.
    pub segmentations: Vec<Segmentation>,
    /// What a laboratory measured.
    pub laboratory: Vec<LabRow>,
    /// Parts of a report in prose.
    pub sections: Vec<Section>,
    /// What it was computed from.
    pub inputs: Vec<InputInstance>,
    /// What computed it.
    pub algorithms: Vec<Algorithm>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An earlier result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// The run that found it.
    pub run: Uuid,
    /// The first of all of them: receivers know the report by its number.
    pub first: Uuid,
    /// Whether it is replaced; if not, it stands, and this adds to it.
    pub is_replaced: bool,
}

impl ResultSet {
    /// What all UIDs of its objects are derived from (DIN-64).
    pub fn name(&self) -> String {
        name_of(self.run, self.revision)
    }

    /// The same of the result before it, if there is one.
    pub fn predecessor(&self) -> Option<String> {
        match self.revision.checked_sub(1) {
            Some(before) => Some(name_of(self.run, before)),
            None => self.amends.map(|it| name_of(it.run, 0)),
        }
    }

    /// The run by which receivers know the report: they replace what has its number (HL7-53).
    pub fn known_as(&self) -> Uuid {
        self.amends.filter(|it| it.is_replaced).map_or(self.run, |it| it.first)
    }

    /// Whether receivers have an earlier version of it.
    pub fn is_correction(&self) -> bool {
        self.revision > 0 || self.amends.is_some_and(|it| it.is_replaced)
    }
}

fn name_of(run: Uuid, revision: u32) -> String {
    if revision == 0 { run.to_string() } else { format!("{run} {revision}") }
}

/// A version of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRef {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file, in hex.
    pub digest: String,
}

/// How far a result may be trusted. The rows of the table in OUT-02.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ResultStatus {
    /// Made by a machine, seen by nobody.
    AiDraft,
    /// The same, and a node failed.
    AiPartial,
    /// Changed by a person, not signed.
    HumanEdited,
    /// Signed by a person.
    Signed,
    /// Changed after it was signed.
    Amended,
    /// Taken back.
    Withdrawn,
}

/// A concept out of a coding scheme (PS3.3, 8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Code value.
    pub value: String,
    /// Coding scheme designator, such as `SCT`, `DCM`, `LN`, `UCUM`.
    pub scheme: String,
    /// What it means, for people.
    pub meaning: String,
}

impl Code {
    /// A concept.
    pub fn new(value: &str, scheme: &str, meaning: &str) -> Self {
        let (value, scheme) = (value.to_owned(), scheme.to_owned());
        Self { value, scheme, meaning: meaning.to_owned() }
    }
}

/// One thing found, or looked for and not found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// Where.
    pub site: Option<Code>,
    /// Whether it is there (OUT-31).
    pub presence: Presence,
    /// In words.
    pub text: String,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is.
    Present,
    /// It was looked for and is not.
    Absent,
    /// It may be.
    Possible,
    /// It was looked for, and what looked cannot say.
    Unknown,
}

/// A number with what it measures and in what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What is measured.
    pub code: Code,
    /// How much.
    pub value: f64,
    /// In what (UCUM).
    pub unit: Code,
}

/// The outlines drawn on one series, on one grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segmentation {
    /// The series that was outlined.
    pub series: SeriesInstanceUid,
    /// Where its voxels lie.
    pub geometry: VolumeGeometry,
    /// What was outlined.
    pub segments: Vec<Segment>,
    /// What outlined it.
    pub algorithm: Algorithm,
}

/// One outlined thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name, at most 64 characters.
    pub label: String,
    /// CID 7150.
    pub category: Code,
    /// CID 7151 or wider.
    pub kind: Code,
    /// Names the thing in all encodings (OUT-16).
    pub tracking_id: String,
    /// One bit a voxel, lowest bit first, slices in the order of the geometry (OUT-11).
    pub mask: ArtifactRef,
    /// How many voxels are set.
    pub voxels: u64,
    /// What was measured on it.
    pub measurements: Vec<Measurement>,
}

/// A regular stack of slices in the patient's space (PS3.3, C.7.6.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeGeometry {
    /// Frame of Reference UID.
    pub frame_of_reference: String,
    /// Rows of a slice.
    pub rows: u32,
    /// Columns of a slice.
    pub columns: u32,
    /// Direction of the rows, then of the columns.
    pub orientation: [f64; 6],
    /// Between rows, then between columns, in mm.
    pub pixel_spacing: [f64; 2],
    /// Between slices along the normal, in mm.
    pub slice_spacing: f64,
    /// Nominal thickness of a slice, in mm.
    pub slice_thickness: f64,
    /// Centre of the first pixel of each slice, in order along the normal.
    pub positions: Vec<[f64; 3]>,
    /// The instance of each slice.
    pub instances: Vec<SopInstanceUid>,
    /// SOP class of the instances.
    pub sop_class: SopClassUid,
    /// Whether the source had been compressed with loss.
    pub lossy: bool,
}

/// What computed something (OUT-15, OUT-33).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Algorithm {
    /// Its name.
    pub name: String,
    /// Its version, at most 64 characters.
    pub version: String,
    /// What it was told, and what it was: `plugin_sha256`, `threshold_hu`, …
    pub parameters: BTreeMap<String, String>,
}

/// A part of a report in prose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// What kind of part, such as (59776-5, LN, "Procedure Findings").
    pub title: Code,
    /// Its text.
    pub text: String,
}

/// An instance that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputInstance {
    /// Which.
    pub instance: SopInstanceUid,
    /// SHA-256 of its data set, in hex.
    pub sha256: String,
}
