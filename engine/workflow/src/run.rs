//! The state machine of a run: one workflow at work on one study or message. Events in, actions out.
//!
//! ```text
//!             Opened          Succeeded
//! Waiting ------------> Open -----------> Done
//!    |                  |  ^
//!    | Skipped          |  | Failed, again
//!    v                  +--+
//! Skipped               |
//!                       +---------------> Failed    Failed for good, or Rejected
//! ```
//!
//! A node is *open* from the moment it may be worked on: whether a worker works on it at present is
//! for the queue to know. What comes after a failed node is skipped, the rest goes on. A node with
//! `for_each` has one *step* for each of its items; every other node is one step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::fan::{FanError, Fans, Item, SeriesItem, fans};
use crate::workflow::{Delivery, Join, Node, Workflow};

mod progress;

pub use progress::NodeProgress;

/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_hours(1);

/// The state of a run. It is stored between events, and is all that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The progress of each step, by its name.
    nodes: BTreeMap<String, NodeProgress>,
    /// The steps of nodes with `for_each`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fans: Fans,
    /// Positions of the deliveries that were released or held back.
    settled: BTreeSet<usize>,
    end: Option<End>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every node that was needed is done.
    Completed,
    /// A node failed for good.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// A step is done.
    Succeeded {
        /// Name of the step.
        node: String,
    },
    /// A step cannot work on this input, on any attempt.
    Rejected {
        /// Name of the step.
        node: String,
        /// Why not.
        reason: String,
    },
    /// An attempt on a step failed; another one may succeed.
    Failed {
        /// Name of the step.
        node: String,
        /// Why it failed.
        reason: String,
    },
    /// A person or an order cancelled the run.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// A person wants what failed to be attempted again.
    Retried,
}

/// Something to do after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Queue a step.
    Open {
        /// Name of the step.
        node: String,
        /// How long it has to wait.
        wait: Duration,
        /// Why it is attempted again. Empty for the first attempt.
        reason: String,
    },
    /// Record that a step is done.
    Close {
        /// Name of the step.
        node: String,
    },
    /// Record that a step failed on its last attempt, and hand it to a person.
    Escalate {
        /// Name of the step.
        node: String,
        /// Why.
        reason: String,
    },
    /// Record that a step will not be worked on.
    Skip {
        /// Name of the step.
        node: String,
        /// Why.
        reason: String,
        /// Whether the run was cancelled.
        is_cancelled: bool,
    },
    /// Release a delivery.
    Deliver {
        /// Position among the deliveries of the workflow.
        index: usize,
    },
    /// Hold a delivery back.
    HoldBack {
        /// Position among the deliveries of the workflow.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The run has ended.
    End(End),
}

/// An event that is not possible in the present state: another worker was faster, or an event was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this cannot happen now: {0:?}")]
pub struct IllegalEvent(pub RunEvent);

impl Run {
    /// Begins a run on these series.
    pub fn begin(workflow: &Workflow, facts: &Facts, series: &[SeriesItem]) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        let (fans, failure) = match fans(workflow, facts, series) {
            Ok(fans) => (fans, None),
            Err(failure) => (Fans::new(), Some(failure)),
        };
        let mut run = Self { nodes: BTreeMap::new(), fans, settled: BTreeSet::new(), end: None };
        for step in run.steps(workflow) {
            run.nodes.insert(step, NodeProgress::Waiting);
        }
        if let Some(FanError { node, reason }) = failure {
            run.nodes.insert(node.clone(), NodeProgress::Failed);
            actions.push(Action::Escalate { node, reason });
        }
        run.settle(workflow, &mut facts.clone(), &mut actions);
        (run, actions)
    }

    /// The names of the steps of a workflow: one per node, or one per item of a node with `for_each`.
    pub fn steps(&self, workflow: &Workflow) -> Vec<String> {
        workflow.nodes.iter().flat_map(|it| self.steps_of(&it.name)).collect()
    }

    fn steps_of(&self, node: &str) -> Vec<String> {
        match self.fans.get(node) {
            Some(steps) => steps.iter().map(|step| step.name.clone()).collect(),
            None => vec![node.to_owned()],
        }
    }

    /// The item that a step is done for. `None` for the one step of a node.
    pub fn item(&self, step: &str) -> Option<&Item> {
        let mut steps = self.fans.values().flatten();
        steps.find(|fan_step| fan_step.name == step).map(|fan_step| &fan_step.item)
    }

    /// The progress of a node: that of its steps together.
    pub fn standing(&self, node: &str) -> Option<NodeProgress> {
        match self.fans.get(node) {
            Some(steps) => {
                let all = steps.iter().filter_map(|step| self.progress(&step.name));
                Some(NodeProgress::together(&all.collect::<Vec<_>>()))
            }
            None => self.progress(node),
        }
    }

    /// The progress of a step.
    pub fn progress(&self, node: &str) -> Option<NodeProgress> {
        self.nodes.get(node).copied()
    }

    /// How the run ended, if it has.
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Applies an event, and returns what to do now. `facts` have the findings of nodes already.
    ///
    /// # Errors
    ///
    /// Fails on an event that is not possible: the step is not open, the run has ended. The run has not
    /// changed.
    pub fn apply(
        &mut self,
        workflow: &Workflow,
        facts: &mut Facts,
        event: RunEvent,
    ) -> Result<Vec<Action>, IllegalEvent> {
        let is_retry = event == RunEvent::Retried;
        if self.end.is_some() != is_retry || is_retry && self.end != Some(End::Failed) {
            return Err(IllegalEvent(event));
        }
        let mut actions = Vec::new();
        match event {
            RunEvent::Retried => self.reopen(workflow),
            RunEvent::Cancelled { reason } => self.cancel(&reason, &mut actions),
            RunEvent::Succeeded { .. } | RunEvent::Rejected { .. } | RunEvent::Failed { .. } => {
                self.conclude(workflow, event, &mut actions)?;
            }
        }
        self.settle(workflow, facts, &mut actions);
        Ok(actions)
    }

    /// Resets what failed, what could not be reached because of that, and what was held back for it.
    fn reopen(&mut self, workflow: &Workflow) {
        self.end = None;
        for (index, delivery) in workflow.deliveries.iter().enumerate() {
            let is_lost = |it: &String| self.standing(it).is_some_and(NodeProgress::is_lost);
            if delivery.after.iter().any(is_lost) {
                self.settled.remove(&index);
            }
        }
        let mut again: Vec<String> = Vec::new();
        for (step, progress) in &mut self.nodes {
            if matches!(progress, NodeProgress::Failed | NodeProgress::Unreachable) {
                *progress = NodeProgress::Waiting;
                again.extend(workflow.node_of(step).map(|it| it.name.clone()));
            }
        }
        // A person who has signed has not seen what is found now.
        for review in workflow.nodes.iter().filter(|it| it.role().is_some()) {
            let before = workflow.closure(&review.after);
            if again.iter().any(|it| before.contains(it.as_str())) {
                self.nodes.insert(review.name.clone(), NodeProgress::Waiting);
            }
        }
    }

    /// Applies the outcome of an attempt on an open step.
    fn conclude(
        &mut self,
        workflow: &Workflow,
        event: RunEvent,
        actions: &mut Vec<Action>,
    ) -> Result<(), IllegalEvent> {
        let (RunEvent::Succeeded { node: name }
        | RunEvent::Rejected { node: name, .. }
        | RunEvent::Failed { node: name, .. }) = &event
        else {
            return Err(IllegalEvent(event));
        };
        let Some(NodeProgress::Open { failures }) = self.progress(name) else {
            return Err(IllegalEvent(event));
        };
        let Some(node) = workflow.node_of(name) else { return Err(IllegalEvent(event)) };
        let name = name.clone();
        let conclusion = concluded(node, &name, failures, event);
        self.nodes.insert(name, conclusion.progress);
        actions.push(conclusion.action);
        Ok(())
    }

    fn cancel(&mut self, reason: &str, actions: &mut Vec<Action>) {
        for (name, progress) in &mut self.nodes {
            if matches!(progress, NodeProgress::Waiting | NodeProgress::Open { .. }) {
                *progress = NodeProgress::Cancelled;
                let reason = reason.to_owned();
                actions.push(Action::Skip { node: name.clone(), reason, is_cancelled: true });
            }
        }
    }

    /// Opens the steps that can be opened, releases the deliveries that can be sent, and ends the run if
    /// nothing is left.
    fn settle(&mut self, workflow: &Workflow, facts: &mut Facts, actions: &mut Vec<Action>) {
        // Each node comes after those it waits for: one pass reaches all.
        for node in &workflow.nodes {
            if self.is_due(workflow, node) {
                self.update_states(workflow, facts);
                self.settle_node(node, facts, actions);
            }
        }
        for (index, delivery) in workflow.deliveries.iter().enumerate() {
            if !self.settled.contains(&index) {
                self.settle_delivery(index, delivery, actions);
            }
        }
        if self.end.is_some() || self.nodes.values().any(|it| it.is_going()) {
            return;
        }
        let end = if self.nodes.values().any(|it| *it == NodeProgress::Cancelled) {
            End::Cancelled
        } else if workflow.nodes.iter().any(|node| self.has_failed(workflow, node)) {
            End::Failed
        } else {
            End::Completed
        };
        self.end = Some(end);
        actions.push(Action::End(end));
    }

    /// Whether a node has failed, and no other is done in its place (`on_failure_of`).
    fn has_failed(&self, workflow: &Workflow, node: &Node) -> bool {
        let mut others = workflow.nodes.iter().filter(|it| it.on_failure_of.contains(&node.name));
        self.standing(&node.name) == Some(NodeProgress::Failed)
            && !others.any(|it| self.standing(&it.name) == Some(NodeProgress::Done))
    }

    /// Whether a node can be decided about. A node under `finally` waits for all others.
    fn is_due(&self, workflow: &Workflow, node: &Node) -> bool {
        let is_waiting = |it: &String| self.progress(it) == Some(NodeProgress::Waiting);
        if !self.steps_of(&node.name).iter().any(is_waiting) {
            return false;
        }
        let goes_on =
            |it: &Node| !it.is_final && self.standing(&it.name).is_some_and(NodeProgress::is_going);
        !node.is_final || !workflow.nodes.iter().any(goes_on)
    }

    /// Opens or skips the steps of a node that still wait, if that can be decided.
    fn settle_node(&mut self, node: &Node, facts: &Facts, actions: &mut Vec<Action>) {
        let before = self.standings(&node.after);
        let watched = self.standings(&node.on_failure_of);
        if before.iter().chain(&watched).any(|it| it.progress.is_going())
            && !lost_for_all(node, &before)
        {
            return;
        }
        let verdict = verdict(node, &before, &watched, facts);
        for step in self.steps_of(&node.name) {
            if self.progress(&step) == Some(NodeProgress::Waiting) {
                self.settle_step(step, &verdict, actions);
            }
        }
    }

    fn standings<'a>(&self, nodes: &'a [String]) -> Vec<Standing<'a>> {
        let known = nodes.iter().filter_map(|node| {
            let progress = self.standing(node)?;
            Some(Standing { node, progress })
        });
        known.collect()
    }

    fn settle_step(&mut self, step: String, verdict: &Verdict, actions: &mut Vec<Action>) {
        let node = step.clone();
        let progress = match verdict {
            Verdict::Open => {
                let reason = String::new();
                actions.push(Action::Open { node, wait: Duration::ZERO, reason });
                NodeProgress::Open { failures: 0 }
            }
            Verdict::Fail(reason) => {
                actions.push(Action::Escalate { node, reason: reason.clone() });
                NodeProgress::Failed
            }
            Verdict::Skip(reason) => {
                let reason = reason.clone();
                actions.push(Action::Skip { node, reason, is_cancelled: false });
                NodeProgress::Skipped
            }
            Verdict::Unreachable(reason) => {
                let reason = reason.clone();
                actions.push(Action::Skip { node, reason, is_cancelled: false });
                NodeProgress::Unreachable
            }
        };
        self.nodes.insert(step, progress);
    }

    /// Releases a delivery or holds it back, if that can be decided.
    fn settle_delivery(&mut self, index: usize, delivery: &Delivery, actions: &mut Vec<Action>) {
        let needed = self.standings(&delivery.after);
        if let Some(lost) = needed.iter().find(|it| it.progress.is_lost()) {
            let reason = format!("node `{}` gave nothing", lost.node);
            self.settled.insert(index);
            actions.push(Action::HoldBack { index, reason });
            return;
        }
        if needed.iter().any(|it| it.progress.is_going()) {
            return;
        }
        self.settled.insert(index);
        let has_some = needed.iter().any(|it| it.progress == NodeProgress::Done);
        if has_some || delivery.after.is_empty() {
            actions.push(Action::Deliver { index });
        } else {
            let reason = "every node it waits for was skipped".to_owned();
            actions.push(Action::HoldBack { index, reason });
        }
    }

    /// Updates the states of nodes that conditions can ask about.
    fn update_states(&self, workflow: &Workflow, facts: &mut Facts) {
        for node in &workflow.nodes {
            if let Some(state) = self.standing(&node.name).and_then(NodeProgress::fact) {
                let node_facts = facts.nodes.entry(node.name.clone()).or_default();
                state.clone_into(&mut node_facts.state);
            }
        }
    }
}

/// The progress of a node that another one waits for.
struct Standing<'a> {
    node: &'a str,
    progress: NodeProgress,
}

/// What becomes of the steps of a node.
enum Verdict {
    /// They are opened.
    Open,
    /// They fail: the condition cannot be evaluated.
    Fail(String),
    /// They are skipped: they are not needed.
    Skip(String),
    /// They are skipped: what they need is missing.
    Unreachable(String),
}

fn verdict(
    node: &Node,
    before: &[Standing<'_>],
    watched: &[Standing<'_>],
    facts: &Facts,
) -> Verdict {
    if let Some(reason) = missing(node, before) {
        return Verdict::Unreachable(reason);
    }
    if !watched.is_empty() && !watched.iter().any(|it| it.progress.is_lost()) {
        return Verdict::Skip("nothing has failed".to_owned());
    }
    let Some(condition) = &node.when else { return Verdict::Open };
    match condition.holds(facts) {
        Ok(true) => Verdict::Open,
        Ok(false) => Verdict::Skip(format!("`{}` does not hold", condition.text())),
        Err(error) => Verdict::Fail(error.to_string()),
    }
}

/// Whether a node lacks its input, whatever becomes of the nodes that still go on.
fn lost_for_all(node: &Node, before: &[Standing<'_>]) -> bool {
    node.join == Join::All && before.iter().any(|it| it.progress.is_lost())
}

/// Why a node lacks its input, if it does.
fn missing(node: &Node, before: &[Standing<'_>]) -> Option<String> {
    match node.join {
        Join::All => {
            let lost = before.iter().find(|it| it.progress.is_lost());
            lost.map(|it| format!("node `{}` gave nothing", it.node))
        }
        Join::Any => {
            let has_some = before.iter().any(|it| it.progress == NodeProgress::Done);
            (!before.is_empty() && !has_some).then(|| "no node before it gave anything".to_owned())
        }
    }
}

/// What follows from an attempt on a step.
struct Conclusion {
    progress: NodeProgress,
    action: Action,
}

fn concluded(node: &Node, step: &str, failures: u32, event: RunEvent) -> Conclusion {
    let name = step.to_owned();
    match event {
        RunEvent::Succeeded { .. } => {
            Conclusion { progress: NodeProgress::Done, action: Action::Close { node: name } }
        }
        RunEvent::Failed { reason, .. } if failures + 1 < node.retry.attempts => {
            let failures = failures + 1;
            let factor = 2_u32.saturating_pow(failures - 1);
            let wait = node.retry.backoff.saturating_mul(factor).min(BACKOFF_MAX);
            let action = Action::Open { node: name, wait, reason };
            Conclusion { progress: NodeProgress::Open { failures }, action }
        }
        RunEvent::Failed { reason, .. } => {
            let reason =
                format!("{} of {} tries failed: {reason}", failures + 1, node.retry.attempts);
            let action = Action::Escalate { node: name, reason };
            Conclusion { progress: NodeProgress::Failed, action }
        }
        RunEvent::Rejected { reason, .. } | RunEvent::Cancelled { reason } => {
            let action = Action::Escalate { node: name, reason };
            Conclusion { progress: NodeProgress::Failed, action }
        }
        RunEvent::Retried => {
            Conclusion { progress: NodeProgress::Waiting, action: Action::Close { node: name } }
        }
    }
}

#[cfg(test)]
mod tests;
