//! The structures that can be outlined, with their names, codes, and windows.

use domain::Code;
use imaging::window::Window;
use serde::Deserialize;

/// A structure to outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Cortical and trabecular bone.
    Bone,
    /// Air-filled lung.
    Lung,
    /// The whole patient, without the table.
    Body,
    /// Liver.
    Liver,
    /// Kidney.
    Kidney,
    /// Spleen.
    Spleen,
    /// Pancreas.
    Pancreas,
    /// Gallbladder.
    Gallbladder,
    /// Heart.
    Heart,
    /// Aorta.
    Aorta,
    /// Brain.
    Brain,
    /// Urinary bladder.
    Bladder,
    /// Any abnormal structure.
    Lesion,
}

/// Codes of a segment (PS3.3, C.8.20.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCodes {
    /// Segmented Property Category Code.
    pub category: Code,
    /// Segmented Property Type Code.
    pub kind: Code,
}

impl Target {
    /// The name in workflow files, in prompts and in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bone => "bone",
            Self::Lung => "lung",
            Self::Body => "body",
            Self::Liver => "liver",
            Self::Kidney => "kidney",
            Self::Spleen => "spleen",
            Self::Pancreas => "pancreas",
            Self::Gallbladder => "gallbladder",
            Self::Heart => "heart",
            Self::Aorta => "aorta",
            Self::Brain => "brain",
            Self::Bladder => "bladder",
            Self::Lesion => "lesion",
        }
    }

    /// The codes of segments: category of CID 7150, type of CID 7151 and wider (OUT-14).
    pub fn codes(self) -> SegmentCodes {
        let (value, meaning) = match self {
            Self::Bone => ("272673000", "Bone"),
            Self::Lung => ("39607008", "Lung"),
            Self::Body => ("38266002", "Entire body"),
            Self::Liver => ("10200004", "Liver"),
            Self::Kidney => ("64033007", "Kidney"),
            Self::Spleen => ("78961009", "Spleen"),
            Self::Pancreas => ("15776009", "Pancreas"),
            Self::Gallbladder => ("28231008", "Gallbladder"),
            Self::Heart => ("80891009", "Heart"),
            Self::Aorta => ("15825003", "Aorta"),
            Self::Brain => ("12738006", "Brain"),
            Self::Bladder => ("89837001", "Bladder"),
            Self::Lesion => ("52988006", "Lesion"),
        };
        let category = match self {
            Self::Bone => Code::new("85756007", "SCT", "Tissue"),
            Self::Lesion => Code::new("49755003", "SCT", "Morphologically Abnormal Structure"),
            _ => Code::new("91723000", "SCT", "Anatomical Structure"),
        };
        SegmentCodes { category, kind: Code::new(value, "SCT", meaning) }
    }

    /// Lower and upper bound in Hounsfield units, if these alone distinguish the structure from all
    /// others.
    pub const fn hounsfield_range(self) -> Option<(f32, f32)> {
        match self {
            Self::Bone => Some((300.0, f32::MAX)),
            Self::Lung => Some((-950.0, -400.0)),
            Self::Body => Some((-300.0, f32::MAX)),
            _ => None,
        }
    }

    /// The window in which a radiologist would look at the structure on CT.
    pub const fn window(self) -> Window {
        match self {
            Self::Bone => Window { center: 400.0, width: 1800.0 },
            Self::Lung => Window { center: -600.0, width: 1500.0 },
            Self::Brain => Window { center: 40.0, width: 80.0 },
            _ => Window { center: 40.0, width: 400.0 },
        }
    }
}
