//! The decisions that a person can make about a result.

use domain::{Meaning, NodeOutput};

/// What a person decides about a result.
///
/// `seen_digest` is the digest of the content that the person looked at: nobody decides about
/// content that they have not seen.
#[derive(Clone, Debug)]
pub enum ReviewDecision {
    /// Reserve the result for this person.
    Claim,
    /// Give the reservation up.
    Release,
    /// Change the content without signing it.
    Edit {
        /// Digest of the content that was edited.
        seen_digest: String,
        /// The whole new content.
        content: Box<NodeOutput>,
    },
    /// Sign the content.
    Sign {
        /// Digest of the content that is signed.
        seen_digest: String,
        /// What the signature means (21 CFR 11.50).
        meaning: Meaning,
    },
    /// Declare the draft unusable.
    Reject {
        /// Digest of the content that is rejected.
        seen_digest: String,
        /// Why, for people.
        reason: String,
    },
    /// Change signed content, and sign it anew.
    Amend {
        /// Digest of the content that was edited.
        seen_digest: String,
        /// The whole new content.
        content: Box<NodeOutput>,
        /// Why, for people.
        reason: String,
    },
    /// Declare signed content void.
    Withdraw {
        /// Digest of the content that is withdrawn.
        seen_digest: String,
        /// Why, for people.
        reason: String,
    },
}
