//! One workflow at work on one study or message.
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
//! A node is *open* from the moment it may be worked on: whether somebody works on it just now is
//! for the queue to know. What comes after a failed node is skipped, the rest goes on. A node with
//! `for_each` is as many *steps* as there are things to do it for; all others are one step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::fan::{Fans, Item, SeriesItem, fans};
use crate::workflow::{Delivery, Join, Node, Workflow};

mod progress;

pub use progress::NodeProgress;

/// Longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_hours(1);

/// How a run stands. It is kept between events, and is all that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How each step stands, by its name.
    nodes: BTreeMap<String, NodeProgress>,
    /// The steps of nodes that are done for several things.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fans: Fans,
    /// Deliveries that were let go or held back.
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
    /// It was taken back.
    Cancelled,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// A node gave what it should.
    Succeeded {
        /// Which.
        node: String,
    },
    /// A node cannot work on this input.
    Rejected {
        /// Which.
        node: String,
        /// Why.
        reason: String,
    },
    /// A node failed, and may not on another try.
    Failed {
        /// Which.
        node: String,
        /// Why.
        reason: String,
    },
    /// Somebody took the run back.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// Somebody wants what failed to be tried again.
    Retried,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let a node be worked on.
    Open {
        /// Which.
        node: String,
        /// Not before this has passed.
        wait: Duration,
        /// Why it is tried again, if it is.
        reason: String,
    },
    /// Put on record that a node is done.
    Close {
        /// Which.
        node: String,
    },
    /// Put on record that a node failed for good, and give it to a person.
    Escalate {
        /// Which.
        node: String,
        /// Why.
        reason: String,
    },
    /// Put on record that a node will not be worked on.
    Skip {
        /// Which.
        node: String,
        /// Why.
        reason: String,
        /// Whether somebody took it back.
        is_cancelled: bool,
    },
    /// Send something.
    Deliver {
        /// Place in the workflow's deliveries.
        index: usize,
    },
    /// Do not send something.
    HoldBack {
        /// Place in the workflow's deliveries.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The run has ended.
    End(End),
}

/// An event that cannot happen now: somebody else was faster, or something is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this cannot happen now: {0:?}")]
pub struct IllegalEvent(pub RunEvent);

impl Run {
    /// Begins a run on these series.
    pub fn begin(workflow: &Workflow, facts: &Facts, series: &[SeriesItem]) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        let (fans, broken) = match fans(workflow, facts, series) {
            Ok(fans) => (fans, None),
            Err(broken) => (Fans::new(), Some(broken)),
        };
        let mut run = Self { nodes: BTreeMap::new(), fans, settled: BTreeSet::new(), end: None };
        for step in run.steps(workflow) {
            run.nodes.insert(step, NodeProgress::Waiting);
        }
        if let Some((node, reason)) = broken {
            run.nodes.insert(node.clone(), NodeProgress::Failed);
            actions.push(Action::Escalate { node, reason });
        }
        run.settle(workflow, &mut facts.clone(), &mut actions);
        (run, actions)
    }

    /// The steps of a workflow: one a node, or as many as there are things to do it for.
    pub fn steps(&self, workflow: &Workflow) -> Vec<String> {
        workflow.nodes.iter().flat_map(|it| self.steps_of(&it.name)).collect()
    }

    fn steps_of(&self, node: &str) -> Vec<String> {
        match self.fans.get(node) {
            Some(steps) => steps.iter().map(|(name, _)| name.clone()).collect(),
            None => vec![node.to_owned()],
        }
    }

    /// What a step is done for, if it is not for all.
    pub fn item(&self, step: &str) -> Option<&Item> {
        let mut all = self.fans.values().flatten();
        all.find(|(name, _)| name == step).map(|(_, item)| item)
    }

    /// How a node stands, its steps taken together.
    pub fn standing(&self, node: &str) -> Option<NodeProgress> {
        let Some(steps) = self.fans.get(node) else { return self.progress(node) };
        let all: Vec<NodeProgress> =
            steps.iter().filter_map(|(name, _)| self.progress(name)).collect();
        let has = |wanted: fn(&NodeProgress) -> bool| all.iter().any(wanted);
        Some(if has(|it| it.is_going()) {
            NodeProgress::Waiting
        } else if has(|it| *it == NodeProgress::Cancelled) {
            NodeProgress::Cancelled
        } else if has(|it| *it == NodeProgress::Failed) {
            NodeProgress::Failed
        } else if has(|it| *it == NodeProgress::Unreachable) {
            NodeProgress::Unreachable
        } else if has(|it| *it == NodeProgress::Done) {
            NodeProgress::Done
        } else {
            NodeProgress::Skipped
        })
    }

    /// How a step stands.
    pub fn progress(&self, node: &str) -> Option<NodeProgress> {
        self.nodes.get(node).copied()
    }

    /// How the run ended, if it has.
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Takes an event in, and says what to do now. What nodes found is told to `facts` before.
    ///
    /// # Errors
    ///
    /// Fails on an event that cannot happen: a node that is not open, a run that has ended. The
    /// run has not changed.
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

    /// Puts back what failed, what could not be reached for it, and what was not sent for it.
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
        // Who has signed has not seen what is found now.
        for review in workflow.nodes.iter().filter(|it| it.role().is_some()) {
            let before = workflow.closure(&review.after);
            if again.iter().any(|it| before.contains(it.as_str())) {
                self.nodes.insert(review.name.clone(), NodeProgress::Waiting);
            }
        }
    }

    /// Takes in how work on an open node went.
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
        let node = workflow.node_of(name);
        let Some(NodeProgress::Open { failures }) = self.progress(name) else {
            return Err(IllegalEvent(event));
        };
        let Some(node) = node else { return Err(IllegalEvent(event)) };
        let name = name.clone();
        let (progress, action) = concluded(node, &name, failures, event);
        self.nodes.insert(name, progress);
        actions.push(action);
        Ok(())
    }

    fn cancel(&mut self, reason: &str, actions: &mut Vec<Action>) {
        for (name, progress) in &mut self.nodes {
            if matches!(progress, NodeProgress::Waiting | NodeProgress::Open { .. }) {
                *progress = NodeProgress::Cancelled;
                let (node, reason) = (name.clone(), reason.to_owned());
                actions.push(Action::Skip { node, reason, is_cancelled: true });
            }
        }
    }

    /// Opens what can be opened, lets go what can be sent, and ends if nothing is left.
    fn settle(&mut self, workflow: &Workflow, facts: &mut Facts, actions: &mut Vec<Action>) {
        // Each node comes after those it waits for: one pass reaches all.
        for node in &workflow.nodes {
            if self.is_due(workflow, node) {
                self.tell(workflow, facts);
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
        let is_failed = |it: &&Node| {
            self.standing(&it.name) == Some(NodeProgress::Failed)
                && !self.is_made_good(workflow, it)
        };
        let end = if self.nodes.values().any(|it| *it == NodeProgress::Cancelled) {
            End::Cancelled
        } else if workflow.nodes.iter().any(|it| is_failed(&it)) {
            End::Failed
        } else {
            End::Completed
        };
        self.end = Some(end);
        actions.push(Action::End(end));
    }

    /// Whether another node has done its work because this one failed.
    fn is_made_good(&self, workflow: &Workflow, node: &Node) -> bool {
        let mut others = workflow.nodes.iter().filter(|it| it.on_failure_of.contains(&node.name));
        others.any(|it| self.standing(&it.name) == Some(NodeProgress::Done))
    }

    /// Whether it is time to say what becomes of a node. One that comes finally waits for all others.
    fn is_due(&self, workflow: &Workflow, node: &Node) -> bool {
        let is_waiting = |it: &String| self.progress(it) == Some(NodeProgress::Waiting);
        if !self.steps_of(&node.name).iter().any(is_waiting) {
            return false;
        }
        let goes_on =
            |it: &Node| !it.is_final && self.standing(&it.name).is_some_and(NodeProgress::is_going);
        !node.is_final || !workflow.nodes.iter().any(goes_on)
    }

    fn settle_node(&mut self, node: &Node, facts: &Facts, actions: &mut Vec<Action>) {
        let stand = |name: &String| self.standing(name).map(|it| (name.clone(), it));
        let before: Vec<(String, NodeProgress)> = node.after.iter().filter_map(stand).collect();
        let watched: Vec<(String, NodeProgress)> =
            node.on_failure_of.iter().filter_map(stand).collect();
        if before.iter().chain(&watched).any(|(_, it)| it.is_going())
            && !lost_for_all(node, &before)
        {
            return;
        }
        let verdict = if let Some(reason) = lacking(node, &before) {
            Err((NodeProgress::Unreachable, reason))
        } else if !watched.is_empty() && !watched.iter().any(|(_, it)| it.is_lost()) {
            Err((NodeProgress::Skipped, "nothing has failed".to_owned()))
        } else {
            match node.when.as_ref().map(|it| (it.text(), it.holds(facts))) {
                None | Some((_, Ok(true))) => Ok(()),
                Some((text, Ok(false))) => {
                    Err((NodeProgress::Skipped, format!("`{text}` does not hold")))
                }
                Some((_, Err(error))) => Err((NodeProgress::Failed, error.to_string())),
            }
        };
        for step in self.steps_of(&node.name) {
            if self.progress(&step) == Some(NodeProgress::Waiting) {
                self.settle_step(step, &verdict, actions);
            }
        }
    }

    fn settle_step(
        &mut self,
        step: String,
        verdict: &Result<(), (NodeProgress, String)>,
        actions: &mut Vec<Action>,
    ) {
        let node = step.clone();
        match verdict {
            Ok(()) => {
                self.nodes.insert(step, NodeProgress::Open { failures: 0 });
                let (wait, reason) = (Duration::ZERO, String::new());
                actions.push(Action::Open { node, wait, reason });
            }
            Err((progress, reason)) => {
                self.nodes.insert(step, *progress);
                let reason = reason.clone();
                actions.push(if *progress == NodeProgress::Failed {
                    Action::Escalate { node, reason }
                } else {
                    Action::Skip { node, reason, is_cancelled: false }
                });
            }
        }
    }

    fn settle_delivery(&mut self, index: usize, delivery: &Delivery, actions: &mut Vec<Action>) {
        let needed: Vec<(&String, NodeProgress)> =
            delivery.after.iter().filter_map(|it| Some((it, self.standing(it)?))).collect();
        if let Some((lost, _)) = needed.iter().find(|(_, it)| it.is_lost()) {
            let reason = format!("node `{lost}` gave nothing");
            self.settled.insert(index);
            actions.push(Action::HoldBack { index, reason });
            return;
        }
        if needed.iter().any(|(_, it)| it.is_going()) {
            return;
        }
        self.settled.insert(index);
        let has_some = needed.iter().any(|(_, it)| *it == NodeProgress::Done);
        if has_some || delivery.after.is_empty() {
            actions.push(Action::Deliver { index });
        } else {
            let reason = "every node it waits for was skipped".to_owned();
            actions.push(Action::HoldBack { index, reason });
        }
    }

    /// What conditions can ask of nodes that have ended.
    fn tell(&self, workflow: &Workflow, facts: &mut Facts) {
        for node in &workflow.nodes {
            let state = match self.standing(&node.name) {
                Some(NodeProgress::Done) => "done",
                Some(NodeProgress::Failed | NodeProgress::Unreachable) => "failed",
                Some(NodeProgress::Skipped) => "skipped",
                _ => continue,
            };
            let told = facts.nodes.entry(node.name.clone()).or_default();
            state.clone_into(&mut told.state);
        }
    }
}

/// Whether nothing that still goes on can change that a node has nothing to work on.
fn lost_for_all(node: &Node, before: &[(String, NodeProgress)]) -> bool {
    node.join == Join::All && before.iter().any(|(_, it)| it.is_lost())
}

/// Why a node cannot be done, if what it needs is not there.
fn lacking(node: &Node, before: &[(String, NodeProgress)]) -> Option<String> {
    let lost = before.iter().find(|(_, it)| it.is_lost());
    match node.join {
        Join::All => lost.map(|(it, _)| format!("node `{it}` gave nothing")),
        Join::Any => {
            let has_some = before.iter().any(|(_, it)| *it == NodeProgress::Done);
            (!before.is_empty() && !has_some).then(|| "no node before it gave anything".to_owned())
        }
    }
}

fn concluded(node: &Node, step: &str, failures: u32, event: RunEvent) -> (NodeProgress, Action) {
    let name = step.to_owned();
    match event {
        RunEvent::Succeeded { .. } => (NodeProgress::Done, Action::Close { node: name }),
        RunEvent::Failed { reason, .. } if failures + 1 < node.retry.attempts => {
            let failures = failures + 1;
            let factor = 2_u32.saturating_pow(failures - 1);
            let wait = node.retry.backoff.saturating_mul(factor).min(BACKOFF_MAX);
            (NodeProgress::Open { failures }, Action::Open { node: name, wait, reason })
        }
        RunEvent::Failed { reason, .. } => {
            let reason =
                format!("{} of {} tries failed: {reason}", failures + 1, node.retry.attempts);
            (NodeProgress::Failed, Action::Escalate { node: name, reason })
        }
        RunEvent::Rejected { reason, .. } | RunEvent::Cancelled { reason } => {
            (NodeProgress::Failed, Action::Escalate { node: name, reason })
        }
        RunEvent::Retried => (NodeProgress::Waiting, Action::Close { node: name }),
    }
}

#[cfg(test)]
mod tests;
