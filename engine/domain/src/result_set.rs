//! The result of a run, in the form that every report is encoded from (OUT-01).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Algorithm, ArtifactRef, Attestation, LabRow, Reasoning, ResultStatus, SeriesInstanceUid,
    SopClassUid, SopInstanceUid, derived_uid, named_enum,
};

/// The result of one run (OUT-01). Every encoding is a pure function of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultSet {
    /// The run.
    pub run: Uuid,
    /// The workflow it followed.
    pub workflow: WorkflowRef,
    /// How far the result may be trusted.
    pub status: ResultStatus,
    /// When the last node had ended.
    pub concluded: Timestamp,
    /// Number of the revision: each change of the patient's identity, of the orders, and by a
    /// person
    /// makes another (HL7-34, OUT-83).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    /// Who edited, signed or withdrew it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attested: Option<Attestation>,
    /// The result of an earlier run that it adds to or replaces (DIN-52).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amends: Option<Amended>,
    /// Findings, in text and codes.
    pub findings: Vec<Finding>,
    /// Segmentations of the images.
    pub segmentations: Vec<Segmentation>,
    /// Boxes on single images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// Laboratory results.
    pub laboratory: Vec<LabRow>,
    /// Parts of a report in prose.
    pub sections: Vec<Section>,
    /// How models came to it: explanation, no findings. An output has it only where the delivery
    /// asks for it (OUT-41).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
    /// The instances it was computed from.
    pub inputs: Vec<InputInstance>,
    /// The algorithms that computed it.
    pub algorithms: Vec<Algorithm>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The relation of a result to that of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// The earlier run.
    pub run: Uuid,
    /// The first run of the chain: receivers know the report by its number.
    pub first: Uuid,
    /// Whether the earlier result is replaced; otherwise this one adds to it.
    pub is_replaced: bool,
}

impl ResultSet {
    /// What the UIDs of all its objects are derived from (DIN-64).
    pub fn name(&self) -> String {
        if self.revision == 0 {
            self.run.to_string()
        } else {
            format!("{} {}", self.run, self.revision)
        }
    }

    /// The run by which receivers know the report: they replace the report with its number
    /// (HL7-53).
    pub fn known_as(&self) -> Uuid {
        self.amends.filter(|it| it.is_replaced).map_or(self.run, |it| it.first)
    }

    /// The tracking UID of a segment: the same in all encodings and versions of a run (OUT-16).
    pub fn tracking_uid(&self, tracking_id: &str) -> String {
        derived_uid(&[&self.run.to_string(), "tracking", tracking_id])
    }
}

/// A version of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRef {
    /// Name of the workflow.
    pub name: String,
    /// SHA-256 of its file, in hex.
    pub digest: String,
}

/// A concept of a coding scheme (PS3.3, 8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Code value.
    pub value: String,
    /// Coding scheme designator, such as `SCT`, `DCM`, `LN`, `UCUM`.
    pub scheme: String,
    /// Code meaning, for people.
    pub meaning: String,
}

impl Code {
    /// The concept with this code, scheme and meaning.
    pub fn new(value: &str, scheme: &str, meaning: &str) -> Self {
        let (value, scheme) = (value.to_owned(), scheme.to_owned());
        Self { value, scheme, meaning: meaning.to_owned() }
    }
}

/// One finding, present or looked for and absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked for.
    pub code: Code,
    /// Anatomical location.
    pub site: Option<Code>,
    /// The side of the patient, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub laterality: Option<Laterality>,
    /// Whether it is present (OUT-31).
    pub presence: Presence,
    /// What became of it since an earlier examination, as a value of [`Finding::change_name`],
    /// if that is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Code>,
    /// The finding in prose.
    pub text: String,
}

impl Finding {
    /// The question that [`Finding::change`] answers (SNOMED CT).
    pub fn change_name() -> Code {
        Code::new("288533004", "SCT", "Change values")
    }
}

/// Whether a finding is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is present.
    Present,
    /// It was looked for and is absent.
    Absent,
    /// It may be present.
    Possible,
    /// It was looked for, and the algorithm cannot decide.
    Unknown,
}

impl Presence {
    /// The qualifier that expresses it (SNOMED CT).
    pub fn code(self) -> Code {
        match self {
            Self::Present => Code::new("52101004", "SCT", "Present"),
            Self::Absent => Code::new("272519000", "SCT", "Absent"),
            Self::Possible => Code::new("371930009", "SCT", "Possible"),
            Self::Unknown => Code::new("373068000", "SCT", "Undetermined"),
        }
    }
}

named_enum! {
    /// The side of the patient on which a finding is.
    pub enum Laterality {
        /// The patient's left.
        Left = "left",
        /// The patient's right.
        Right = "right",
        /// Both sides.
        Bilateral = "bilateral",
    }
}

impl Laterality {
    /// The qualifier that expresses it (SNOMED CT; PS3.16, CID 244).
    pub fn code(self) -> Code {
        match self {
            Self::Left => Code::new("7771000", "SCT", "Left"),
            Self::Right => Code::new("24028007", "SCT", "Right"),
            Self::Bilateral => Code::new("51440002", "SCT", "Right and left"),
        }
    }
}

/// A measured quantity with its unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The quantity.
    pub code: Code,
    /// The value.
    pub value: f64,
    /// The unit (UCUM).
    pub unit: Code,
}

/// The segments of one series, on one grid of voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segmentation {
    /// The segmented series.
    pub series: SeriesInstanceUid,
    /// Where the voxels lie.
    pub geometry: VolumeGeometry,
    /// The segments.
    pub segments: Vec<Segment>,
    /// The algorithm that made them.
    pub algorithm: Algorithm,
    /// Whether it is for research only: it stays with the outputs of its run, and is in no draft, no
    /// report and no review.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_hidden: bool,
}

/// One segment: a structure and the mask of its voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Segment label, at most 64 characters.
    pub label: String,
    /// Segmented property category (CID 7150).
    pub category: Code,
    /// Segmented property type (CID 7151 or wider).
    pub kind: Code,
    /// The side of the patient, if the structure is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub laterality: Option<Laterality>,
    /// Tracking ID: names the structure in all encodings (OUT-16).
    pub tracking_id: String,
    /// The mask: one bit per voxel, lowest bit first, slices in the order of the geometry (OUT-11).
    pub mask: ArtifactRef,
    /// Number of voxels in the mask.
    pub voxels: u64,
    /// Whether a person has changed the mask.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_edited: bool,
    /// Measurements of the structure.
    pub measurements: Vec<Measurement>,
    /// The key of its measurements among all segments of the result (OBX-4), which it keeps in
    /// every version. Zero until the engine stores it.
    #[serde(default)]
    pub key: u32,
}

/// The grid a mask is drawn on: a regular stack of slices, or one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeGeometry {
    /// Rows of a slice.
    pub rows: u32,
    /// Columns of a slice.
    pub columns: u32,
    /// Spacing between rows, then between columns, in mm; `None` if a pixel has no known size
    /// (DIN-82).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_spacing: Option<[f64; 2]>,
    /// Where the grid lies in the patient. `None` for an image that does not state it (radiographs,
    /// ultrasound, photographs): then only pixel coordinates are known (OUT-17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<PatientSpace>,
    /// The instance of each slice.
    pub instances: Vec<SopInstanceUid>,
    /// SOP class of the instances.
    pub sop_class: SopClassUid,
    /// Whether the source was compressed with loss.
    pub lossy: bool,
}

impl VolumeGeometry {
    /// Number of slices.
    pub const fn slices(&self) -> usize {
        self.instances.len()
    }

    /// Number of pixels in a slice.
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
    /// Spacing between slices along the normal, in mm.
    pub slice_spacing: f64,
    /// Nominal thickness of a slice, in mm.
    pub slice_thickness: f64,
    /// Centre of the first pixel of each slice, in order along the normal.
    pub positions: Vec<[f64; 3]>,
}

/// A box on one image (OUT-30).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// What the box shows, in prose (PAP-07).
    pub label: String,
    /// The series of the image.
    pub series: SeriesInstanceUid,
    /// The image (SOP Instance UID).
    pub instance: SopInstanceUid,
    /// SOP class of the image.
    pub sop_class: SopClassUid,
    /// Number of columns and rows of the image.
    pub size: [u32; 2],
    /// Left, top, right and bottom in pixels; 0, 0 is the upper left corner of the first pixel.
    pub corners: [u32; 4],
    /// The algorithm that drew it.
    pub algorithm: Algorithm,
}

/// A part of a report in prose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Concept name of the section, such as (59776-5, LN, "Procedure Findings").
    pub title: Code,
    /// The text of the section.
    pub text: String,
}

/// An instance that the result was computed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputInstance {
    /// SOP Instance UID.
    pub instance: SopInstanceUid,
    /// SHA-256 of its data set, in hex.
    pub sha256: String,
}
