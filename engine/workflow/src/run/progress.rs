//! The progress of a step, and of the steps of a node together.

use serde::{Deserialize, Serialize};

/// The progress of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeProgress {
    /// It waits for nodes before it.
    Waiting,
    /// It may be worked on.
    Open {
        /// The number of attempts that failed.
        failures: u32,
    },
    /// It has succeeded.
    Done,
    /// Its last attempt failed, or it rejected its input.
    Failed,
    /// Its condition did not hold.
    Skipped,
    /// What it needs failed.
    Unreachable,
    /// The run was cancelled.
    Cancelled,
}

impl NodeProgress {
    /// Whether it will never have an output for the nodes after it.
    pub(super) const fn is_lost(self) -> bool {
        matches!(self, Self::Failed | Self::Unreachable | Self::Cancelled)
    }

    /// Whether it may still become done.
    pub(super) const fn is_going(self) -> bool {
        matches!(self, Self::Waiting | Self::Open { .. })
    }

    /// The progress of a node with these steps: the least favourable of them. Without steps the node is
    /// skipped.
    pub(super) fn together(steps: &[Self]) -> Self {
        if steps.iter().any(|it| it.is_going()) {
            return Self::Waiting;
        }
        let by_precedence = [Self::Cancelled, Self::Failed, Self::Unreachable, Self::Done];
        let found = by_precedence.into_iter().find(|progress| steps.contains(progress));
        found.unwrap_or(Self::Skipped)
    }

    /// The state that conditions can ask about, of a node that has ended.
    pub(super) const fn fact(self) -> Option<&'static str> {
        match self {
            Self::Done => Some("done"),
            Self::Failed | Self::Unreachable => Some("failed"),
            Self::Skipped => Some("skipped"),
            Self::Waiting | Self::Open { .. } | Self::Cancelled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NodeProgress::{Cancelled, Done, Failed, Open, Skipped, Unreachable, Waiting};
    use super::*;

    #[test]
    fn a_node_waits_as_long_as_one_of_its_steps_goes_on() {
        let open = Open { failures: 1 };
        assert_eq!(NodeProgress::together(&[Done, Failed, open]), Waiting);
        assert_eq!(NodeProgress::together(&[Waiting, Skipped]), Waiting);
    }

    #[test]
    fn the_least_favourable_of_ended_steps_is_that_of_the_node() {
        assert_eq!(NodeProgress::together(&[Done, Failed, Cancelled]), Cancelled);
        assert_eq!(NodeProgress::together(&[Done, Failed, Unreachable]), Failed);
        assert_eq!(NodeProgress::together(&[Done, Skipped, Unreachable]), Unreachable);
        assert_eq!(NodeProgress::together(&[Skipped, Done]), Done);
        assert_eq!(NodeProgress::together(&[]), Skipped);
    }

    #[test]
    fn conditions_see_only_what_has_ended() {
        assert_eq!(Unreachable.fact(), Some("failed"));
        assert_eq!(Skipped.fact(), Some("skipped"));
        assert_eq!(Open { failures: 0 }.fact(), None);
    }
}
