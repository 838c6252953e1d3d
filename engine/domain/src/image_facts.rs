//! What the headers of a study state about its images and their patient, as plugins are told it.

use serde::{Deserialize, Serialize};

use crate::Code;

/// What the header of an image states (PS3.3, C.7.3, C.7.6 and C.8). Texts are empty, and numbers
/// missing, where it states nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Series Number (0020,0011).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series_number: Option<i64>,
    /// Acquisition Number (0020,0012).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquisition_number: Option<i64>,
    /// Instance Number (0020,0013).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_number: Option<i64>,
    /// Image Type (0008,0008).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_type: Vec<String>,
    /// View Position (0018,5101): `PA`, `AP`, `LL`, `CC`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub view_position: String,
    /// View Code Sequence (0054,0220): its first item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_code: Option<Code>,
    /// Image Laterality (0020,0062), or else Laterality (0020,0060): `L`, `R`, `B` or `U`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub laterality: String,
    /// Patient Orientation (0020,0020): directions of the rows and of the columns, such as `L`, `F`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patient_orientation: Vec<String>,
    /// Body Part Examined (0018,0015).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body_part: String,
    /// Image Position (Patient) (0020,0032), in mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<[f64; 3]>,
    /// Image Orientation (Patient) (0020,0037): directions of the rows, then of the columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<[f64; 6]>,
}

impl ImageFacts {
    /// The view as its modality calls it: View Position, or else the meaning of View Code. Empty if
    /// neither is stated.
    pub fn view(&self) -> &str {
        let coded = self.view_code.as_ref().map(|it| it.meaning.as_str()).unwrap_or_default();
        if self.view_position.is_empty() { coded } else { &self.view_position }
    }
}

/// What the headers of a study state about its patient that does not identify anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientFacts {
    /// Patient's Age (0010,1010) at the time of the study, such as `045Y`: as stated, or else from
    /// the date of birth. Empty if neither is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub age: String,
    /// Patient's Sex (0010,0040): `M`, `F` or `O`. Empty if it is not stated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sex: String,
}
