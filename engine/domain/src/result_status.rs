//! How far a result may be trusted: what every report states about itself (OUT-02).

use serde::{Deserialize, Serialize};

/// How far a result may be trusted. The rows of the table in OUT-02.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ResultStatus {
    /// Made by a machine; no person has seen it.
    AiDraft,
    /// As [`Self::AiDraft`], with parts missing because a node failed.
    AiPartial,
    /// Changed by a person, not signed.
    HumanEdited,
    /// Signed by a person.
    Signed,
    /// Changed after it was signed.
    Amended,
    /// Withdrawn: not to be used.
    Withdrawn,
}
