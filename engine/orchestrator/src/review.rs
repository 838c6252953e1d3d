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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contracts::{
    Archive, LockChange, NewVersion, OpenReview, ReviewRefusal, ReviewStep, ReviewVersion,
    ReviewView, Reviewer, Store, StoreError,
};
use domain::{Action, ArtifactRef, Event, Meaning, NodeOutput, ReviewState};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use workflow::{RunEvent, Workflow};

use crate::completion::after;
use crate::content::drafted;
use crate::step::{step_of, subject};

mod change;
pub(crate) mod difference;

/// How long somebody has a result under their hands, unless they do something.
const LOCK: Duration = Duration::from_mins(30);

/// Longest reason.
const REASON_MAX: usize = 10_000;

/// What somebody decides. `seen` is the digest of the content they decided about.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Take it under their hands.
    Claim,
    /// Let it go.
    Release,
    /// Change it, without signing.
    Edit {
        /// Which content was changed.
        seen: String,
        /// The whole result.
        content: Box<NodeOutput>,
    },
    /// Stand for it.
    Sign {
        /// Which content.
        seen: String,
        /// What the signature means.
        meaning: Meaning,
    },
    /// Have the draft used for nothing.
    Reject {
        /// Which content.
        seen: String,
        /// Why.
        reason: String,
    },
    /// Change and sign anew what was signed.
    Amend {
        /// Which content was changed.
        seen: String,
        /// The whole result.
        content: Box<NodeOutput>,
        /// Why.
        reason: String,
    },
    /// Take back what was signed.
    Withdraw {
        /// Which content.
        seen: String,
        /// Why.
        reason: String,
    },
}

/// A result, as it stands.
#[derive(Clone, Debug)]
pub struct Current {
    /// Everything that is known of it.
    pub view: ReviewView,
    /// What it says now.
    pub content: NodeOutput,
    /// SHA-256 of that.
    pub digest: String,
}

/// Where people decide about results.
#[derive(Clone)]
pub struct ReviewDesk {
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// Where masks lie.
    pub archive: Arc<dyn Archive>,
}

impl ReviewDesk {
    /// Who came with a token, if it is valid now.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn let_in(&self, token: &str) -> Result<Option<Reviewer>, StoreError> {
        self.store.reviewer(&Sha256::digest(token.as_bytes()).into()).await
    }

    /// What waits for somebody in the role of the reviewer.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn open(&self, by: &Reviewer) -> Result<Vec<OpenReview>, StoreError> {
        let all = self.store.open_reviews().await?;
        let is_theirs = |it: &OpenReview| {
            let workflow = workflow::reread(&it.workflow, &it.definition).ok();
            let node = workflow.as_ref().and_then(|workflow| workflow.node_of(&it.node));
            node.and_then(|it| it.role()) == Some(by.person.role.as_str())
        };
        Ok(all.into_iter().filter(is_theirs).collect())
    }

    /// A result as it stands.
    ///
    /// # Errors
    ///
    /// Fails if the database does. The inner error says why they may not see it.
    pub async fn look(
        &self,
        run: Uuid,
        by: &Reviewer,
    ) -> Result<Result<Current, ReviewRefusal>, StoreError> {
        let Some(view) = self.store.view_review(run, by).await? else {
            return Ok(Err(ReviewRefusal::Unknown("there is no such run".to_owned())));
        };
        Ok(workflow_of(&view).and_then(|it| may(&it, by)).map(|()| current(view)))
    }

    /// Takes in what somebody decided.
    ///
    /// # Errors
    ///
    /// Fails if the database does. The inner error says why it cannot be.
    pub async fn decide(
        &self,
        run: Uuid,
        by: &Reviewer,
        decision: Decision,
        now: Timestamp,
    ) -> Result<Result<(), ReviewRefusal>, StoreError> {
        let found = match self.look(run, by).await? {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let masks = match self.masks(&found, &decision).await {
            Ok(masks) => masks,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let decide = |view: &ReviewView| step(view, by, &decision, &masks, now);
        self.store.change_review(run, by, Box::new(decide)).await
    }

    /// Keeps a mask that somebody has drawn.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub async fn keep_mask(&self, bits: Vec<u8>) -> std::io::Result<ArtifactRef> {
        self.archive.keep_artifact(bits).await
    }

    /// A mask of a result; nothing, if it has none of this digest.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub async fn mask(&self, current: &Current, digest: &str) -> std::io::Result<Option<Vec<u8>>> {
        let versions = current.view.versions.iter().flat_map(|it| it.content.artifacts());
        let drafted = current.view.outputs.values().flat_map(NodeOutput::artifacts);
        match drafted.chain(versions).find(|it| it.sha256 == digest) {
            Some(found) => Ok(Some(self.archive.artifact(found).await?)),
            None => Ok(None),
        }
    }

    /// All masks that the draft, the content of now, and the new one name.
    async fn masks(
        &self,
        found: &Current,
        decision: &Decision,
    ) -> Result<BTreeMap<String, Vec<u8>>, ReviewRefusal> {
        let new = match decision {
            Decision::Edit { content, .. } | Decision::Amend { content, .. } => Some(&**content),
            _ => None,
        };
        let drafted = found.view.outputs.values().flat_map(NodeOutput::artifacts);
        let now = found.content.artifacts().chain(new.into_iter().flat_map(NodeOutput::artifacts));
        let mut masks = BTreeMap::new();
        for artifact in drafted.chain(now) {
            let content = self.archive.artifact(artifact).await.map_err(|_| {
                ReviewRefusal::Invalid(format!("there is no mask {}", artifact.sha256))
            })?;
            masks.insert(artifact.sha256.clone(), content);
        }
        Ok(masks)
    }
}

/// What a result says now.
fn current(view: ReviewView) -> Current {
    // What waits anew after it was decided about (a retried run) begins with what was found by now.
    let is_reopened =
        |it: &&ReviewVersion| !view.open.is_empty() && it.state != ReviewState::Edited;
    let last = view.versions.last().filter(|it| !is_reopened(it));
    let (content, digest) = if let Some(last) = last {
        (last.content.clone(), last.attestation.digest.clone())
    } else {
        let content = drafted(&view.outputs, &view.plugins, &view.run);
        let digest = digest_of(&content);
        (content, digest)
    };
    Current { view, content, digest }
}

fn digest_of(content: &NodeOutput) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(content).unwrap_or_default()))
}

fn workflow_of(view: &ReviewView) -> Result<Workflow, ReviewRefusal> {
    let run = &view.run;
    workflow::reread(&run.workflow.name, &run.definition).map_err(|_| {
        ReviewRefusal::Conflict("the workflow of the run cannot be read by this version".to_owned())
    })
}

/// Whether somebody reviews what this workflow finds.
fn may(workflow: &Workflow, by: &Reviewer) -> Result<(), ReviewRefusal> {
    let mut roles = workflow.nodes.iter().filter_map(|it| it.role()).peekable();
    if roles.peek().is_none() {
        let text = "nobody reviews what this workflow finds: it has no step with `review`";
        return Err(ReviewRefusal::Unknown(text.to_owned()));
    }
    if roles.any(|it| it == by.person.role) {
        return Ok(());
    }
    Err(ReviewRefusal::Forbidden(format!("not for the role `{}`", by.person.role)))
}

/// What a decision changes.
fn step(
    view: &ReviewView,
    by: &Reviewer,
    decision: &Decision,
    masks: &BTreeMap<String, Vec<u8>>,
    now: Timestamp,
) -> Result<ReviewStep, ReviewRefusal> {
    let workflow = workflow_of(view)?;
    may(&workflow, by)?;
    check_lock(view, by)?;
    let desk = Desk { found: current(view.clone()), workflow: &workflow, by, masks, now };
    match decision {
        Decision::Claim => {
            desk.open_node()?;
            let lock = LockChange::Take(after(now, LOCK));
            Ok(ReviewStep { lock, ..desk.told("review_claimed") })
        }
        Decision::Release => {
            Ok(ReviewStep { lock: LockChange::Release, ..desk.told("review_released") })
        }
        Decision::Edit { seen, content } => desk.edit(seen, content),
        Decision::Sign { seen, meaning } => desk.sign(seen, *meaning),
        Decision::Reject { seen, reason } => desk.reject(seen, reason),
        Decision::Amend { seen, content, reason } => desk.amend(seen, content, reason),
        Decision::Withdraw { seen, reason } => desk.withdraw(seen, reason),
    }
}

fn check_lock(view: &ReviewView, by: &Reviewer) -> Result<(), ReviewRefusal> {
    match &view.lock {
        Some((other, until)) if other.token != by.token => {
            let name = other.person.printed_name();
            Err(ReviewRefusal::Conflict(format!("{name} works on it until {until}")))
        }
        _ => Ok(()),
    }
}

/// A decision in the making.
struct Desk<'a> {
    found: Current,
    workflow: &'a Workflow,
    by: &'a Reviewer,
    masks: &'a BTreeMap<String, Vec<u8>>,
    now: Timestamp,
}

impl Desk<'_> {
    fn last(&self) -> Option<&ReviewVersion> {
        self.found.view.versions.last()
    }

    /// The step that waits for somebody in their role.
    fn open_node(&self) -> Result<String, ReviewRefusal> {
        let is_theirs = |it: &&String| {
            self.workflow.node_of(it).and_then(|it| it.role()) == Some(&self.by.person.role)
        };
        let open = self.found.view.open.iter().find(is_theirs).cloned();
        open.ok_or_else(|| ReviewRefusal::Conflict("nothing waits for you in this run".to_owned()))
    }

    /// That it was signed and still stands.
    fn check_signed(&self) -> Result<&ReviewVersion, ReviewRefusal> {
        let is_signed =
            |it: &&ReviewVersion| matches!(it.state, ReviewState::Signed | ReviewState::Amended);
        if self.found.view.is_replaced {
            let text = "a later run has taken its place: decide about that one";
            return Err(ReviewRefusal::Conflict(text.to_owned()));
        }
        let text = "it is not signed, or was taken back";
        self.last().filter(is_signed).ok_or_else(|| ReviewRefusal::Conflict(text.to_owned()))
    }

    /// Nobody decides about what they have not seen.
    fn check_seen(&self, seen: &str) -> Result<(), ReviewRefusal> {
        if seen == self.found.digest {
            return Ok(());
        }
        let text = "it is not what you have seen any more: look again";
        Err(ReviewRefusal::Conflict(text.to_owned()))
    }

    fn told(&self, kind: &str) -> ReviewStep {
        let subject = subject(&self.found.view.run);
        let detail = json!({"role": self.by.person.role, "token": self.by.token});
        let events = vec![Event::engine(kind, Action::U, subject, detail)];
        ReviewStep { events, ..ReviewStep::default() }
    }

    fn draft(&self) -> NodeOutput {
        let view = &self.found.view;
        drafted(&view.outputs, &view.plugins, &view.run)
    }

    /// A new state. `reason` may name a patient: it is kept with the difference.
    fn version(
        &self,
        state: ReviewState,
        content: NodeOutput,
        (meaning, reason): (Option<Meaning>, &str),
    ) -> NewVersion {
        let draft = self.draft();
        let mut difference = difference::between(&draft, &content, self.masks);
        if let (false, Some(parts)) = (reason.is_empty(), difference.as_object_mut()) {
            parts.insert("reason".to_owned(), json!(reason));
        }
        let document = self.last().map_or(0, |it| it.attestation.document);
        let is_amended = state == ReviewState::Amended;
        NewVersion {
            state,
            meaning,
            document: if is_amended { document + 1 } else { document },
            replaces: is_amended.then_some(document),
            digest: digest_of(&content),
            difference,
            // Something to learn from is what somebody stands for.
            draft: meaning.is_some().then_some(draft),
            content,
        }
    }

    fn edit(&self, seen: &str, content: &NodeOutput) -> Result<ReviewStep, ReviewRefusal> {
        self.open_node()?;
        self.check_seen(seen)?;
        let content = change::checked(&self.draft(), &self.found.content, content, self.masks)?;
        let lock = LockChange::Take(after(self.now, LOCK));
        let version = Some(self.version(ReviewState::Edited, content, (None, "")));
        Ok(ReviewStep { lock, version, ..self.told("result_edited") })
    }

    fn sign(&self, seen: &str, meaning: Meaning) -> Result<ReviewStep, ReviewRefusal> {
        let node = self.open_node()?;
        self.check_seen(seen)?;
        let content = self.found.content.clone();
        let is_changed = self.last().is_some() && digest_of(&content) != digest_of(&self.draft());
        let expected = if is_changed { Meaning::Corrected } else { Meaning::Approved };
        if meaning != expected {
            let text = format!(
                "the result was {}: the signature means `{}`",
                if is_changed { "changed" } else { "not changed" },
                expected.name()
            );
            return Err(ReviewRefusal::Invalid(text));
        }
        let version = Some(self.version(ReviewState::Signed, content, (Some(meaning), "")));
        let run = self.run(RunEvent::Succeeded { node })?;
        Ok(ReviewStep { lock: LockChange::Release, version, run, ..self.told("result_signed") })
    }

    fn reject(&self, seen: &str, reason: &str) -> Result<ReviewStep, ReviewRefusal> {
        let node = self.open_node()?;
        self.check_seen(seen)?;
        check_reason(reason)?;
        let meaning = Some(Meaning::Rejected);
        let content = self.found.content.clone();
        let version = Some(self.version(ReviewState::Rejected, content, (meaning, reason)));
        let reason = "rejected in review".to_owned();
        let run = self.run(RunEvent::Rejected { node, reason })?;
        Ok(ReviewStep { lock: LockChange::Release, version, run, ..self.told("result_rejected") })
    }

    fn amend(
        &self,
        seen: &str,
        content: &NodeOutput,
        reason: &str,
    ) -> Result<ReviewStep, ReviewRefusal> {
        self.check_signed()?;
        self.check_seen(seen)?;
        check_reason(reason)?;
        let content = change::checked(&self.draft(), &self.found.content, content, self.masks)?;
        let meaning = Some(Meaning::Corrected);
        let version = Some(self.version(ReviewState::Amended, content, (meaning, reason)));
        Ok(ReviewStep { version, ..self.told("result_amended") })
    }

    fn withdraw(&self, seen: &str, reason: &str) -> Result<ReviewStep, ReviewRefusal> {
        self.check_signed()?;
        self.check_seen(seen)?;
        check_reason(reason)?;
        let content = self.found.content.clone();
        let version = Some(self.version(ReviewState::Withdrawn, content, (None, reason)));
        Ok(ReviewStep { version, ..self.told("result_withdrawn") })
    }

    fn run(&self, event: RunEvent) -> Result<Option<contracts::RunStep>, ReviewRefusal> {
        let record = &self.found.view.run;
        match step_of(record, self.workflow, event, None, None, self.now) {
            Some(step) => Ok(Some(step)),
            None => Err(ReviewRefusal::Conflict("the run has gone on meanwhile".to_owned())),
        }
    }
}

fn check_reason(reason: &str) -> Result<(), ReviewRefusal> {
    let length = reason.trim().chars().count();
    if (1..=REASON_MAX).contains(&length) {
        return Ok(());
    }
    Err(ReviewRefusal::Invalid(format!("say why, in at most {REASON_MAX} letters")))
}
