//! How far a node is.

use serde::{Deserialize, Serialize};

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeProgress {
    /// For others before it.
    Waiting,
    /// May be worked on; this many tries have failed.
    Open {
        /// Tries that failed.
        failures: u32,
    },
    /// It gave what it should.
    Done,
    /// It gave nothing, for good.
    Failed,
    /// Its condition did not hold.
    Skipped,
    /// What it needs failed.
    Unreachable,
    /// It was taken back.
    Cancelled,
}

impl NodeProgress {
    /// Whether it will never give anything to those who wait for it.
    pub(super) const fn is_lost(self) -> bool {
        matches!(self, Self::Failed | Self::Unreachable | Self::Cancelled)
    }

    /// Whether it may still give something.
    pub(super) const fn is_going(self) -> bool {
        matches!(self, Self::Waiting | Self::Open { .. })
    }
}
