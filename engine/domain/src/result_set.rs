use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::derived_uid;
use crate::{ArtifactRef, Attestation, LabRow, SeriesInstanceUid, SopClassUid, SopInstanceUid};

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
    /// Which of the run's versions it is: each change of the patient's identity, of the orders, and
    /// by a person makes another (HL7-34, OUT-83).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    /// Who changed, signed or took it back last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attested: Option<Attestation>,
    /// The result of an earlier run that it adds to or replaces (DIN-52).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amends: Option<Amended>,
    /// What was found, in words and codes.
    pub findings: Vec<Finding>,
    /// What was outlined.
    pub segmentations: Vec<Segmentation>,
    /// What was marked on single images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
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
        if self.revision == 0 {
            self.run.to_string()
        } else {
            format!("{} {}", self.run, self.revision)
        }
    }

    /// The run by which receivers know the report: they replace what has its number (HL7-53).
    pub fn known_as(&self) -> Uuid {
        self.amends.filter(|it| it.is_replaced).map_or(self.run, |it| it.first)
    }

    /// Names an outlined thing in all encodings and all versions of a run (OUT-16).
    pub fn tracking_uid(&self, tracking_id: &str) -> String {
        derived_uid(&[&self.run.to_string(), "tracking", tracking_id])
    }
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

impl Presence {
    /// The qualifier for it (SNOMED CT).
    pub fn code(self) -> Code {
        match self {
            Self::Present => Code::new("52101004", "SCT", "Present"),
            Self::Absent => Code::new("272519000", "SCT", "Absent"),
            Self::Possible => Code::new("371930009", "SCT", "Possible"),
            Self::Unknown => Code::new("261665006", "SCT", "Unknown"),
        }
    }
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
    /// Whether a person has changed the mask.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_edited: bool,
    /// What was measured on it.
    pub measurements: Vec<Measurement>,
}

/// The grid a mask is drawn on: a regular stack of slices, or one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeGeometry {
    /// Rows of a slice.
    pub rows: u32,
    /// Columns of a slice.
    pub columns: u32,
    /// Between rows, then between columns, in mm; nothing, where a pixel has no known size (DIN-82).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_spacing: Option<[f64; 2]>,
    /// Where it lies in the patient. Nothing for an image that does not say (radiographs,
    /// ultrasound, photographs): then its pixels are all there is (OUT-17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<PatientSpace>,
    /// The instance of each slice.
    pub instances: Vec<SopInstanceUid>,
    /// SOP class of the instances.
    pub sop_class: SopClassUid,
    /// Whether the source had been compressed with loss.
    pub lossy: bool,
}

impl VolumeGeometry {
    /// How many slices.
    pub const fn slices(&self) -> usize {
        self.instances.len()
    }

    /// Pixels of a slice.
    pub const fn pixels(&self) -> usize {
        self.rows as usize * self.columns as usize
    }
}

/// Where a regular stack of slices lies in the patient (PS3.3, C.7.6.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatientSpace {
    /// Frame of Reference UID.
    pub frame_of_reference: String,
    /// Direction of the rows, then of the columns.
    pub orientation: [f64; 6],
    /// Between slices along the normal, in mm.
    pub slice_spacing: f64,
    /// Nominal thickness of a slice, in mm.
    pub slice_thickness: f64,
    /// Centre of the first pixel of each slice, in order along the normal.
    pub positions: Vec<[f64; 3]>,
}

/// A box on one image (OUT-30).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// What it is said to show, in words of its own (PAP-07).
    pub label: String,
    /// The series of the image.
    pub series: SeriesInstanceUid,
    /// The image.
    pub instance: SopInstanceUid,
    /// Its SOP class.
    pub sop_class: SopClassUid,
    /// Columns and rows of the image.
    pub size: [u32; 2],
    /// Left, top, right and bottom in pixels; 0, 0 is the upper left corner of the first pixel.
    pub corners: [u32; 4],
    /// What marked it.
    pub algorithm: Algorithm,
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
