//! The structures that can be outlined: known ones with their codes, and any other by its text.

use domain::Code;
use imaging::window::Window;
use serde::Deserialize;

use crate::known_target::{
    Category, HounsfieldTarget, KNOWN_TARGETS, KnownTarget, LESION_ML, Parts, SOFT_TISSUE,
};

/// Upper bound of the characters of a name: the label of a segment has 64, with its side and number.
const NAME_MAX: usize = 40;

/// A structure to outline.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Entry")]
pub struct Target {
    name: String,
    known: Option<&'static KnownTarget>,
    parts: Parts,
}

/// A target as workflow files write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Name(String),
    Details(Details),
}

/// A target of which the workflow knows more than the name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    name: String,
    /// Whether each connected part is a finding of its own.
    #[serde(default)]
    countable: Option<bool>,
    /// Whether each part is of a side of the patient.
    #[serde(default)]
    sides: Option<bool>,
}

impl TryFrom<Entry> for Target {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        let details = match entry {
            Entry::Details(details) => details,
            Entry::Name(name) => Details { name, countable: None, sides: None },
        };
        let name = details.name.trim().to_owned();
        let is_unusable = |it: char| it.is_control() || matches!(it, '\\' | '[' | ']' | '{' | '}');
        let length = name.chars().count();
        if length == 0 || length > NAME_MAX || name.chars().any(is_unusable) {
            return Err(format!(
                "a target is named by 1 to {NAME_MAX} characters, without brackets and backslashes"
            ));
        }
        let known = KNOWN_TARGETS.iter().find(|it| it.name.eq_ignore_ascii_case(&name));
        let parts = details.parts(known.map_or(Parts::One, |it| it.parts))?;
        Ok(Self { name: known.map_or(name, |it| it.name.to_owned()), known, parts })
    }
}

impl Details {
    /// What the workflow states about the parts; the rest is as usual.
    fn parts(&self, usual: Parts) -> Result<Parts, String> {
        let usual_ml = match usual {
            Parts::One => None,
            Parts::Several { smallest_ml, .. } => Some(smallest_ml),
        };
        let usual_sides = matches!(usual, Parts::Several { have_sides: true, .. });
        if !self.countable.unwrap_or(usual_ml.is_some()) {
            return match self.sides {
                Some(true) => Err(format!("`{}` has sides only if it is countable", self.name)),
                Some(false) | None => Ok(Parts::One),
            };
        }
        Ok(Parts::Several {
            smallest_ml: usual_ml.unwrap_or(LESION_ML),
            have_sides: self.sides.unwrap_or(usual_sides),
        })
    }
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
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its code is of a public coding scheme; otherwise it carries a local one.
    pub const fn is_coded(&self) -> bool {
        self.known.is_some()
    }

    /// Whether each connected part is a finding of its own.
    pub(crate) const fn parts(&self) -> Parts {
        self.parts
    }

    /// The codes of segments: category of CID 7150, type of CID 7151 and wider (OUT-14). A structure
    /// that is not known has a local code, the same for the same name.
    pub fn codes(&self) -> SegmentCodes {
        let kind = match self.known {
            Some(known) => Code::new(known.code, "SCT", known.meaning),
            None => Code::new(&local_code(&self.name), "99ISOCENTER", &self.name),
        };
        let category = match self.known.map_or(Category::Anatomy, |it| it.category) {
            Category::Anatomy => Code::new("91723000", "SCT", "Anatomical Structure"),
            Category::Tissue => Code::new("85756007", "SCT", "Tissue"),
            Category::Abnormality => {
                Code::new("49755003", "SCT", "Morphologically Abnormal Structure")
            }
        };
        SegmentCodes { category, kind }
    }

    /// How Hounsfield units distinguish the structure, if these alone do.
    pub(crate) fn hounsfield(&self) -> Option<HounsfieldTarget> {
        self.known.and_then(|it| it.hounsfield)
    }

    /// The window in which a radiologist would look at the structure on CT.
    pub fn window(&self) -> Window {
        self.known.map_or(SOFT_TISSUE, |it| it.window)
    }
}

/// A code value of at most 16 characters (SH) for a name: its FNV-1a hash, without regard to case.
fn local_code(name: &str) -> String {
    let hash = name.to_lowercase().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("t-{:012x}", hash >> 16)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(entry: serde_json::Value) -> Target {
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn out_14_a_known_name_is_coded_and_any_other_text_has_a_local_code() {
        let known = target(json!("Liver"));
        assert_eq!(known.codes().kind, Code::new("10200004", "SCT", "Liver"));
        assert!(known.is_coded() && known.name() == "liver");
        let other = target(json!("optic disc"));
        let code = other.codes().kind;
        assert!(!other.is_coded());
        assert_eq!((code.scheme.as_str(), code.meaning.as_str()), ("99ISOCENTER", "optic disc"));
        assert!(code.value.len() <= 16);
        assert_eq!(target(json!("Optic disc")).codes().kind.value, code.value);
        assert_ne!(target(json!("optic cup")).codes().kind.value, code.value);
    }

    #[test]
    fn pap_14_whether_a_target_is_countable_is_in_one_table_and_a_workflow_may_say_otherwise() {
        assert_eq!(target(json!("bone")).parts(), Parts::One);
        assert!(matches!(target(json!("kidney")).parts(), Parts::Several { have_sides: true, .. }));
        assert!(matches!(
            target(json!("lesion")).parts(),
            Parts::Several { have_sides: false, .. }
        ));
        assert_eq!(target(json!("polyp of the colon")).parts(), Parts::One);
        assert!(matches!(
            target(json!({"name": "polyp", "countable": true})).parts(),
            Parts::Several { have_sides: false, .. }
        ));
        assert_eq!(target(json!({"name": "kidney", "countable": false})).parts(), Parts::One);
    }

    #[test]
    fn a_name_that_cannot_be_a_label_is_refused() {
        for entry in [
            json!(""),
            json!("x".repeat(41)),
            json!("a [SEG]"),
            json!("a\nb"),
            json!({"name": "polyp", "sides": true}),
            json!({"name": "polyp", "colour": "red"}),
        ] {
            assert!(serde_json::from_value::<Target>(entry.clone()).is_err(), "{entry}");
        }
    }
}
