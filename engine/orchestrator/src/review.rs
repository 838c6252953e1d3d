//! What people decide about results: edit, sign, reject, amend, withdraw (OUT-80..83).
//!
//! ```text
//!            edit                 amend
//!            +--+                 +--+
//!            v  |  sign           v  |
//! draft --> edited -----> signed, amended -----> withdrawn
//!    |        |                      withdraw
//!    +--------+--------> rejected
//! ```
//!
//! - [`ReviewService`] reads results, and stores decisions in one transaction with their effects.
//! - [`decision`] lists the decisions.
//! - [`transition`] decides, purely, what a decision changes, or why it is refused.
//! - [`validation`] checks what a person edited and measures it again.
//! - [`difference`] describes what a person changed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use contracts::{
    Archive, OpenReview, ReviewRefusal, ReviewStore, ReviewView, Reviewer, StoreError,
};
use domain::{ArtifactRef, NodeOutput};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tracing::error;
use uuid::Uuid;

mod decision;
pub(crate) mod difference;
mod transition;
mod validation;

pub use decision::ReviewDecision;
pub use transition::CurrentResult;

/// Where people read results and decide about them.
#[derive(Clone)]
pub struct ReviewService {
    store: Arc<dyn ReviewStore>,
    archive: Arc<dyn Archive>,
}

impl ReviewService {
    /// A service on this database and archive.
    pub fn new(store: Arc<dyn ReviewStore>, archive: Arc<dyn Archive>) -> Self {
        Self { store, archive }
    }

    /// The person whose token this is, if the token is valid now.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Reviewer>, StoreError> {
        self.store.find_reviewer(&Sha256::digest(token.as_bytes()).into()).await
    }

    /// The reviews that wait for the role of the reviewer, oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn open_reviews(&self, reviewer: &Reviewer) -> Result<Vec<OpenReview>, StoreError> {
        let mut reviews = self.store.open_reviews().await?;
        reviews.retain(|it| transition::is_for_role(it, &reviewer.person.role));
        Ok(reviews)
    }

    /// A result as it stands now. That it was read is recorded (AUD-08).
    ///
    /// # Errors
    ///
    /// Fails if the database does. The inner error states why the reviewer may not read it.
    pub async fn current(
        &self,
        run: Uuid,
        reviewer: &Reviewer,
    ) -> Result<Result<CurrentResult, ReviewRefusal>, StoreError> {
        let Some(view) = self.store.view_review(run, reviewer).await? else {
            return Ok(Err(ReviewRefusal::Unknown("there is no such run".to_owned())));
        };
        Ok(transition::check_role(&view, reviewer).map(|_| CurrentResult::of(view)))
    }

    /// Applies a decision. Nothing is changed if it is refused.
    ///
    /// # Errors
    ///
    /// Fails if the database does. The inner error states why the decision is refused.
    pub async fn decide(
        &self,
        run: Uuid,
        reviewer: &Reviewer,
        decision: ReviewDecision,
        now: Timestamp,
    ) -> Result<Result<(), ReviewRefusal>, StoreError> {
        let current = match self.current(run, reviewer).await? {
            Ok(current) => current,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let masks = match self.masks(&current, &decision).await {
            Ok(masks) => masks,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let decide =
            |view: &ReviewView| transition::review_step(view, reviewer, &decision, &masks, now);
        self.store.change_review(run, reviewer, Box::new(decide)).await
    }

    /// Stores a mask that a person has drawn, so that an edit can name it.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub async fn store_mask(&self, bits: Vec<u8>) -> io::Result<ArtifactRef> {
        self.archive.store_artifact(bits).await
    }

    /// A mask of a result; `None` if no version of the result has one of this digest.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub async fn mask(&self, current: &CurrentResult, digest: &str) -> io::Result<Option<Vec<u8>>> {
        let of_versions = current.view.versions.iter().flat_map(|it| it.content.artifacts());
        let of_draft = current.view.outputs.values().flat_map(NodeOutput::artifacts);
        match of_draft.chain(of_versions).find(|it| it.sha256 == digest) {
            Some(artifact) => Ok(Some(self.archive.artifact(artifact).await?)),
            None => Ok(None),
        }
    }

    /// All masks that the draft, the current content and the new content name, by SHA-256.
    async fn masks(
        &self,
        current: &CurrentResult,
        decision: &ReviewDecision,
    ) -> Result<BTreeMap<String, Vec<u8>>, ReviewRefusal> {
        let new = match decision {
            ReviewDecision::Edit { content, .. } | ReviewDecision::Amend { content, .. } => {
                Some(content.as_ref())
            }
            ReviewDecision::Claim
            | ReviewDecision::Release
            | ReviewDecision::Sign { .. }
            | ReviewDecision::Reject { .. }
            | ReviewDecision::Withdraw { .. } => None,
        };
        let of_draft = current.view.outputs.values().flat_map(NodeOutput::artifacts);
        let of_current = current.content.artifacts();
        let of_new = new.into_iter().flat_map(NodeOutput::artifacts);
        let mut masks = BTreeMap::new();
        for artifact in of_draft.chain(of_current).chain(of_new) {
            let mask = self.archive.artifact(artifact).await;
            let mask = mask.map_err(|error| unread_mask(artifact, &error))?;
            masks.insert(artifact.sha256.clone(), mask);
        }
        Ok(masks)
    }
}

/// Why a decision is refused whose mask cannot be read. Only one that is not there is a fault of
/// the person's edit; a disk that fails now may not fail later.
fn unread_mask(artifact: &ArtifactRef, error: &io::Error) -> ReviewRefusal {
    let digest = &artifact.sha256;
    match error.kind() {
        io::ErrorKind::NotFound => ReviewRefusal::Invalid(format!("there is no mask {digest}")),
        io::ErrorKind::InvalidData => ReviewRefusal::Conflict(format!(
            "mask {digest} is damaged in the archive: IT has to restore it (isocenter doctor)"
        )),
        _ => {
            error!(%error, "a mask cannot be read");
            ReviewRefusal::Unavailable(format!("mask {digest} cannot be read now: try again"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_80_a_mask_that_cannot_be_read_is_not_told_as_one_that_is_missing() {
        let artifact = ArtifactRef { sha256: "ab".to_owned(), bytes: 2 };
        let refusal = |kind: io::ErrorKind| unread_mask(&artifact, &kind.into());
        assert!(matches!(refusal(io::ErrorKind::NotFound), ReviewRefusal::Invalid(_)));
        assert!(matches!(refusal(io::ErrorKind::InvalidData), ReviewRefusal::Conflict(_)));
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            let refusal = refusal(kind);
            assert!(matches!(&refusal, ReviewRefusal::Unavailable(_)), "{refusal}");
            assert!(!refusal.to_string().contains("there is no"), "{refusal}");
        }
    }
}
