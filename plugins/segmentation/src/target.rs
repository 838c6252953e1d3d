//! What can be outlined: names, codes, and how each is looked at.

use domain::Code;
use imaging::window::Window;
use serde::Deserialize;

/// What to outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Bone.
    Bone,
    /// Air-filled lung.
    Lung,
    /// The patient.
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
    /// Anything that should not be there.
    Lesion,
}

impl Target {
    /// Its name in the workflow file, in prompts and in outputs.
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

    /// Category and type, CID 7150 and 7151 and wider (OUT-14).
    pub fn codes(self) -> (Code, Code) {
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
        (category, Code::new(value, "SCT", meaning))
    }

    /// Hounsfield units it has, where those alone tell it from everything else.
    pub const fn range(self) -> Option<(f32, f32)> {
        match self {
            Self::Bone => Some((300.0, f32::MAX)),
            Self::Lung => Some((-950.0, -400.0)),
            Self::Body => Some((-300.0, f32::MAX)),
            _ => None,
        }
    }

    /// How a person would look at it on CT.
    pub const fn window(self) -> Window {
        match self {
            Self::Bone => Window { center: 400.0, width: 1800.0 },
            Self::Lung => Window { center: -600.0, width: 1500.0 },
            Self::Brain => Window { center: 40.0, width: 80.0 },
            _ => Window { center: 40.0, width: 400.0 },
        }
    }
}
