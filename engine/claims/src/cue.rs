//! Words that say how a finding is meant: the lines of `data/triggers.*.tsv`.
//!
//! | kind | what it says of a finding in its scope |
//! |---|---|
//! | `negation` | it is not there |
//! | `doubt` | it may be there, whatever else denies it: "cannot be excluded" |
//! | `possible` | it may be there |
//! | `affirmed` | it is there, although a word looks like a denial: "not only" |
//! | `unknown` | nobody could tell: "not assessed" |
//! | `historical`, `hypothetical`, `family` | it was earlier, is asked for, is of a relative |
//! | `new`, `increased`, `decreased`, `unchanged`, `resolved` | what became of it |
//! | `earlier` | it was seen earlier: what is denied of it now has resolved |
//! | `pseudo` | nothing: the phrase contains words that are a cue elsewhere |
//! | `terminate` | the scope of every cue ends |
//! | `limit` | the scope of what is said about presence and change ends |
//!
//! The direction is `forward` (the finding comes after it), `backward`, or `either`.

use crate::claim::State;

/// What a cue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CueKind {
    Negation,
    Doubt,
    Possible,
    Affirmed,
    Unknown,
    Historical,
    Hypothetical,
    Family,
    State(State),
    Earlier,
    Pseudo,
    Terminate,
    Limit,
}

/// What a cue is about. Cues of one category exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    Presence,
    Temporality,
    Experiencer,
    State,
    /// It says nothing of a finding.
    None,
}

impl CueKind {
    /// The kind with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "negation" => Self::Negation,
            "doubt" => Self::Doubt,
            "possible" => Self::Possible,
            "affirmed" => Self::Affirmed,
            "unknown" => Self::Unknown,
            "historical" => Self::Historical,
            "hypothetical" => Self::Hypothetical,
            "family" => Self::Family,
            "new" => Self::State(State::New),
            "increased" => Self::State(State::Increased),
            "decreased" => Self::State(State::Decreased),
            "unchanged" => Self::State(State::Unchanged),
            "resolved" => Self::State(State::Resolved),
            "earlier" => Self::Earlier,
            "pseudo" => Self::Pseudo,
            "terminate" => Self::Terminate,
            "limit" => Self::Limit,
            _ => return None,
        })
    }

    pub(crate) const fn category(self) -> Category {
        match self {
            Self::Negation | Self::Doubt | Self::Possible | Self::Affirmed | Self::Unknown => {
                Category::Presence
            }
            Self::Historical | Self::Hypothetical => Category::Temporality,
            Self::Family => Category::Experiencer,
            Self::State(_) => Category::State,
            Self::Earlier | Self::Pseudo | Self::Terminate | Self::Limit => Category::None,
        }
    }
}

/// Where the findings stand that a cue applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
    Either,
}

impl Direction {
    /// The direction with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "forward" => Some(Self::Forward),
            "backward" => Some(Self::Backward),
            "either" => Some(Self::Either),
            _ => None,
        }
    }

    /// The direction of a phrase that is listed with both.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Either }
    }
}

/// A cue in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cue {
    pub(crate) kind: CueKind,
    pub(crate) direction: Direction,
    /// The first token.
    pub(crate) start: usize,
    /// The token after the last one.
    pub(crate) end: usize,
}
