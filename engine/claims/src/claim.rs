//! A claim of a text, and what may be said of it.

use std::fmt;

use domain::{Code, Laterality, Presence};

use crate::sentence::tokens;

/// A claim of a text: that a finding is there, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Name of the finding.
    pub concept: String,
    /// Code of the finding.
    pub code: Code,
    /// Whether the text says that it is present. `Unknown` if it says that nobody could tell, or
    /// asks for it only.
    pub presence: Presence,
    /// When it is or was there.
    pub temporality: Temporality,
    /// Whose finding it is.
    pub experiencer: Experiencer,
    /// What became of it since an earlier examination.
    pub state: Option<State>,
    /// The sides that the text names for it.
    pub sides: Sides,
    /// The site that the text names beside it.
    pub site: Option<String>,
    /// Whether it is the claim that nothing abnormal was found.
    pub is_normality: bool,
    /// The sentence.
    pub sentence: String,
}

impl Claim {
    /// Whether the claim is about the patient at the time of the examination.
    pub fn is_current(&self) -> bool {
        self.temporality == Temporality::Current && self.experiencer == Experiencer::Patient
    }

    /// Whether the text says that it is there, or may be.
    pub fn is_present(&self) -> bool {
        matches!(self.presence, Presence::Present | Presence::Possible)
    }
}

/// Finding, presence, time, person and state: `pleural effusion=present historical family resolved`.
/// What is usual (now, of the patient, no change named) is left out.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let presence = match self.presence {
            Presence::Present => "present",
            Presence::Absent => "absent",
            Presence::Possible => "possible",
            Presence::Unknown => "unknown",
        };
        write!(f, "{}={presence}", self.concept)?;
        match self.temporality {
            Temporality::Current => {}
            Temporality::Historical => f.write_str(" historical")?,
            Temporality::Hypothetical => f.write_str(" hypothetical")?,
        }
        if self.experiencer == Experiencer::Family {
            f.write_str(" family")?;
        }
        self.state.map_or(Ok(()), |it| write!(f, " {}", it.name()))
    }
}

/// When a finding is or was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// At the time of the examination.
    Current,
    /// Earlier.
    Historical,
    /// It is asked for, or a condition.
    Hypothetical,
}

/// Whose finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Experiencer {
    /// The patient's.
    Patient,
    /// A relative's.
    Family,
}

/// What became of a finding since an earlier examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not there.
    New,
    /// There is more of it.
    Increased,
    /// There is less of it.
    Decreased,
    /// It is as it was.
    Unchanged,
    /// It is no longer there.
    Resolved,
}

impl State {
    /// The state in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Increased => "increased",
            Self::Decreased => "decreased",
            Self::Unchanged => "unchanged",
            Self::Resolved => "resolved",
        }
    }
}

/// Sides of the patient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The left one.
    pub left: bool,
    /// The right one.
    pub right: bool,
}

/// Words for both sides.
const BOTH: [&str; 7] = ["bilateral", "bilaterally", "both", "bibasilar", "biapical", "双", "两"];

impl Sides {
    /// The sides that a text names, also in labels with underscores.
    pub fn of(text: &str) -> Self {
        let read = tokens(&text.replace('_', " "));
        read.iter().fold(Self::default(), |sides, it| sides.and(Self::of_word(&it.text)))
    }

    /// The sides that a word names.
    pub(crate) fn of_word(word: &str) -> Self {
        let is_both = BOTH.contains(&word);
        Self {
            left: is_both || matches!(word, "left" | "左"),
            right: is_both || matches!(word, "right" | "右"),
        }
    }

    /// The sides of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { left: self.left || other.left, right: self.right || other.right }
    }

    /// Whether no side is named.
    pub const fn is_none(self) -> bool {
        !self.left && !self.right
    }

    /// Whether each of both names one side only, and these are opposite.
    pub const fn contradict(self, other: Self) -> bool {
        let only_left = self.left && !self.right;
        let only_right = self.right && !self.left;
        only_left && other.right && !other.left || only_right && other.left && !other.right
    }

    /// The sides as a value of a finding.
    pub const fn laterality(self) -> Option<Laterality> {
        match (self.left, self.right) {
            (true, true) => Some(Laterality::Bilateral),
            (true, false) => Some(Laterality::Left),
            (false, true) => Some(Laterality::Right),
            (false, false) => None,
        }
    }
}
