//! What a decision changes in a result, or why it is refused. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use contracts::{
    LockChange, NewVersion, OpenReview, ReviewChange, ReviewRefusal, ReviewStep, ReviewVersion,
    ReviewView, Reviewer, RunStep,
};
use domain::{Meaning, NodeOutput, ReviewState, row_keys};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use workflow::{RunEvent, Workflow};

use super::decision::ReviewDecision;
use super::{difference, validation};
use crate::draft::draft_of;
use crate::run::step::next_step;
use crate::timing::after;

/// How long a result stays reserved for a person who does nothing more about it.
const LOCK: Duration = Duration::from_mins(30);

/// Characters of a reason.
const REASON_MAX: usize = 10_000;

/// A result as it stands now.
#[derive(Clone, Debug)]
pub struct CurrentResult {
    /// The run with all versions of its result.
    pub view: ReviewView,
    /// The content of the last version, or the draft.
    pub content: NodeOutput,
    /// SHA-256 of the content, in hex.
    pub digest: String,
}

impl CurrentResult {
    /// Finds the current content of a result.
    pub(super) fn of(view: ReviewView) -> Self {
        // A run that was retried after a decision waits for a new one, which begins with what the
        // nodes have found since.
        let is_reopened =
            |it: &&ReviewVersion| !view.open.is_empty() && it.state != ReviewState::Edited;
        if let Some(last) = view.versions.last().filter(|it| !is_reopened(it)) {
            let content = last.content.clone();
            let digest = last.attestation.digest.clone();
            return Self { view, content, digest };
        }
        let content = draft_of(&view.outputs, &view.plugins, &view.run);
        let digest = digest_of(&content);
        Self { view, content, digest }
    }
}

fn digest_of(content: &NodeOutput) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(content).unwrap_or_default()))
}

/// Whether a review waits for people in this role.
pub(super) fn is_for_role(review: &OpenReview, role: &str) -> bool {
    let workflow = workflow::reread(&review.workflow, &review.definition).ok();
    let node = workflow.as_ref().and_then(|workflow| workflow.node_of(&review.node));
    node.and_then(|it| it.role()) == Some(role)
}

/// The workflow of a run, if the role of the reviewer reviews what it finds.
pub(super) fn check_role(
    view: &ReviewView,
    reviewer: &Reviewer,
) -> Result<Workflow, ReviewRefusal> {
    let run = &view.run;
    let workflow = workflow::reread(&run.workflow.name, &run.definition)
        .map_err(|_| conflict("the workflow of the run cannot be read by this version"))?;
    let mut roles = workflow.nodes.iter().filter_map(|it| it.role()).peekable();
    if roles.peek().is_none() {
        let text = "nobody reviews what this workflow finds: it has no step with `review`";
        return Err(ReviewRefusal::Unknown(text.to_owned()));
    }
    if roles.any(|it| it == reviewer.person.role) {
        return Ok(workflow);
    }
    Err(ReviewRefusal::Forbidden(format!("not for the role `{}`", reviewer.person.role)))
}

/// What a decision changes.
pub(super) fn review_step(
    view: &ReviewView,
    reviewer: &Reviewer,
    decision: &ReviewDecision,
    masks: &BTreeMap<String, Vec<u8>>,
    now: Timestamp,
) -> Result<ReviewStep, ReviewRefusal> {
    let workflow = check_role(view, reviewer)?;
    check_lock(view, reviewer)?;
    let current = CurrentResult::of(view.clone());
    let draft = draft_of(&view.outputs, &view.plugins, &view.run);
    let transition = Transition { current, draft, workflow: &workflow, reviewer, masks, now };
    match decision {
        ReviewDecision::Claim => {
            transition.open_node()?;
            Ok(step(ReviewChange::Claimed, LockChange::Take(after(now, LOCK))))
        }
        ReviewDecision::Release => Ok(step(ReviewChange::Released, LockChange::Release)),
        ReviewDecision::Edit { seen_digest, content } => transition.edit(seen_digest, content),
        ReviewDecision::Sign { seen_digest, meaning } => transition.sign(seen_digest, *meaning),
        ReviewDecision::Reject { seen_digest, reason } => transition.reject(seen_digest, reason),
        ReviewDecision::Amend { seen_digest, content, reason } => {
            transition.amend(seen_digest, content, reason)
        }
        ReviewDecision::Withdraw { seen_digest, reason } => {
            transition.withdraw(seen_digest, reason)
        }
    }
}

fn step(change: ReviewChange, lock: LockChange) -> ReviewStep {
    ReviewStep { change, lock, version: None, run: None }
}

fn check_lock(view: &ReviewView, reviewer: &Reviewer) -> Result<(), ReviewRefusal> {
    match &view.lock {
        Some(lock) if lock.holder.token != reviewer.token => {
            let name = lock.holder.person.printed_name();
            Err(ReviewRefusal::Conflict(format!("{name} works on it until {}", lock.until)))
        }
        _ => Ok(()),
    }
}

fn conflict(text: &str) -> ReviewRefusal {
    ReviewRefusal::Conflict(text.to_owned())
}

/// The signature of a new version, and the reason that its author gave.
#[derive(Clone, Copy)]
struct Statement<'a> {
    meaning: Option<Meaning>,
    /// Empty where none is asked for. It may name a patient, so it is stored with the difference,
    /// encrypted, and never in the trail.
    reason: &'a str,
}

/// A decision with everything it depends on.
struct Transition<'a> {
    current: CurrentResult,
    draft: NodeOutput,
    workflow: &'a Workflow,
    reviewer: &'a Reviewer,
    masks: &'a BTreeMap<String, Vec<u8>>,
    now: Timestamp,
}

impl Transition<'_> {
    fn last_version(&self) -> Option<&ReviewVersion> {
        self.current.view.versions.last()
    }

    /// The version that stands, whatever is proposed beside it.
    fn version_in_force(&self) -> Option<&ReviewVersion> {
        let versions = &self.current.view.versions;
        let states: Vec<ReviewState> = versions.iter().map(|it| it.state).collect();
        ReviewState::in_force(&states).and_then(|at| versions.get(at))
    }

    /// Number of the document that a signature takes the place of: that of the signed version, or
    /// of the signed result of the run that this one replaces.
    fn signed_document(&self) -> Option<u32> {
        let own = self.version_in_force().filter(|it| it.state.is_signed());
        let replaced = self.current.view.standing.filter(|it| it.is_replaced);
        own.map(|it| it.attestation.document).or_else(|| replaced.map(|it| it.document))
    }

    /// The open review that waits for the role of the reviewer.
    fn open_node(&self) -> Result<String, ReviewRefusal> {
        let role = Some(self.reviewer.person.role.as_str());
        let mut open = self.current.view.open.iter();
        let node = open.find(|it| self.workflow.node_of(it).and_then(|it| it.role()) == role);
        node.cloned().ok_or_else(|| conflict("nothing waits for you in this run"))
    }

    /// Fails unless the result is signed and in force.
    fn check_signed(&self) -> Result<(), ReviewRefusal> {
        if self.current.view.is_replaced {
            return Err(conflict("a later run has taken its place: decide about that one"));
        }
        match self.version_in_force().map(|it| it.state) {
            Some(ReviewState::Signed | ReviewState::Amended) => Ok(()),
            None | Some(ReviewState::Edited | ReviewState::Rejected | ReviewState::Withdrawn) => {
                Err(conflict("it is not signed, or was taken back"))
            }
        }
    }

    fn check_seen(&self, seen_digest: &str) -> Result<(), ReviewRefusal> {
        if seen_digest == self.current.digest {
            return Ok(());
        }
        Err(conflict("it is not what you have seen any more: look again"))
    }

    fn validated(&self, content: &NodeOutput) -> Result<NodeOutput, ReviewRefusal> {
        let mut content =
            validation::validated(&self.draft, &self.current.content, content, self.masks)?;
        let versions = self.current.view.versions.iter().map(|it| &it.content);
        row_keys::inherit(&mut content, &self.current.content);
        row_keys::number(&mut content, versions.chain([&self.draft]));
        Ok(content)
    }

    fn version(
        &self,
        state: ReviewState,
        content: NodeOutput,
        statement: Statement<'_>,
    ) -> NewVersion {
        let mut difference = difference::between(&self.draft, &content, self.masks);
        if !statement.reason.is_empty()
            && let Some(parts) = difference.as_object_mut()
        {
            parts.insert("reason".to_owned(), json!(statement.reason));
        }
        let replaces = self.signed_document().filter(|_| state.is_signed());
        let in_force = self.version_in_force().map_or(0, |it| it.attestation.document);
        NewVersion {
            state,
            meaning: statement.meaning,
            document: replaces.map_or(in_force, |it| it + 1),
            replaces,
            digest: digest_of(&content),
            difference,
            // Only what a person signed is something to learn from.
            draft: statement.meaning.map(|_| self.draft.clone()),
            content,
        }
    }

    fn edit(&self, seen_digest: &str, content: &NodeOutput) -> Result<ReviewStep, ReviewRefusal> {
        self.open_node()?;
        self.check_seen(seen_digest)?;
        let statement = Statement { meaning: None, reason: "" };
        let version = self.version(ReviewState::Edited, self.validated(content)?, statement);
        let lock = LockChange::Take(after(self.now, LOCK));
        Ok(ReviewStep { version: Some(version), ..step(ReviewChange::Edited, lock) })
    }

    fn sign(&self, seen_digest: &str, meaning: Meaning) -> Result<ReviewStep, ReviewRefusal> {
        let node = self.open_node()?;
        self.check_seen(seen_digest)?;
        let content = self.current.content.clone();
        let is_changed =
            self.last_version().is_some() && digest_of(&content) != digest_of(&self.draft);
        let expected = if is_changed { Meaning::Corrected } else { Meaning::Approved };
        if meaning != expected {
            return Err(ReviewRefusal::Invalid(format!(
                "the result was {}: the signature means `{}`",
                if is_changed { "changed" } else { "not changed" },
                expected.name()
            )));
        }
        let statement = Statement { meaning: Some(meaning), reason: "" };
        let version = self.version(ReviewState::Signed, content, statement);
        let run = self.run_step(RunEvent::Succeeded { node })?;
        Ok(ReviewStep {
            version: Some(version),
            run: Some(run),
            ..step(ReviewChange::Signed, LockChange::Release)
        })
    }

    fn reject(&self, seen_digest: &str, reason: &str) -> Result<ReviewStep, ReviewRefusal> {
        let node = self.open_node()?;
        self.check_seen(seen_digest)?;
        check_reason(reason)?;
        let statement = Statement { meaning: Some(Meaning::Rejected), reason };
        let content = self.current.content.clone();
        let version = self.version(ReviewState::Rejected, content, statement);
        let reason = "rejected in review".to_owned();
        let run = self.run_step(RunEvent::Rejected { node, reason })?;
        Ok(ReviewStep {
            version: Some(version),
            run: Some(run),
            ..step(ReviewChange::Rejected, LockChange::Release)
        })
    }

    fn amend(
        &self,
        seen_digest: &str,
        content: &NodeOutput,
        reason: &str,
    ) -> Result<ReviewStep, ReviewRefusal> {
        self.check_signed()?;
        self.check_seen(seen_digest)?;
        check_reason(reason)?;
        let statement = Statement { meaning: Some(Meaning::Corrected), reason };
        let version = self.version(ReviewState::Amended, self.validated(content)?, statement);
        Ok(ReviewStep { version: Some(version), ..step(ReviewChange::Amended, LockChange::Keep) })
    }

    fn withdraw(&self, seen_digest: &str, reason: &str) -> Result<ReviewStep, ReviewRefusal> {
        self.check_signed()?;
        self.check_seen(seen_digest)?;
        check_reason(reason)?;
        let statement = Statement { meaning: None, reason };
        let content = self.current.content.clone();
        let version = self.version(ReviewState::Withdrawn, content, statement);
        Ok(ReviewStep { version: Some(version), ..step(ReviewChange::Withdrawn, LockChange::Keep) })
    }

    fn run_step(&self, event: RunEvent) -> Result<RunStep, ReviewRefusal> {
        let step = next_step(&self.current.view.run, self.workflow, event, None, None, self.now);
        step.ok_or_else(|| conflict("the run has gone on meanwhile"))
    }
}

fn check_reason(reason: &str) -> Result<(), ReviewRefusal> {
    let length = reason.trim().chars().count();
    if (1..=REASON_MAX).contains(&length) {
        return Ok(());
    }
    Err(ReviewRefusal::Invalid(format!("state a reason of at most {REASON_MAX} characters")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_neither_blank_nor_endless() {
        assert!(check_reason("the patient moved").is_ok());
        assert!(check_reason("  \n").is_err());
        assert!(check_reason(&"x".repeat(REASON_MAX)).is_ok());
        assert!(check_reason(&"x".repeat(REASON_MAX + 1)).is_err());
    }
}
