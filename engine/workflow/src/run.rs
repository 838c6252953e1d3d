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
//! for the queue to know. What comes after a failed node is skipped, the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::workflow::{Delivery, Node, Workflow};

/// Longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_hours(1);

/// How a run stands. It is kept between events, and is all that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    nodes: BTreeMap<String, NodeProgress>,
    /// Deliveries that were let go or held back.
    settled: BTreeSet<usize>,
    end: Option<End>,
}

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
    /// Begins a run.
    pub fn begin(workflow: &Workflow, facts: &Facts) -> (Self, Vec<Action>) {
        let waiting = |it: &Node| (it.name.clone(), NodeProgress::Waiting);
        let nodes = workflow.nodes.iter().map(waiting).collect();
        let mut run = Self { nodes, settled: BTreeSet::new(), end: None };
        let mut actions = Vec::new();
        run.settle(workflow, facts, &mut actions);
        (run, actions)
    }

    /// How a node stands.
    pub fn progress(&self, node: &str) -> Option<NodeProgress> {
        self.nodes.get(node).copied()
    }

    /// How the run ended, if it has.
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Takes an event in, and says what to do now.
    ///
    /// # Errors
    ///
    /// Fails on an event that cannot happen: a node that is not open, a run that has ended. The
    /// run has not changed.
    pub fn apply(
        &mut self,
        workflow: &Workflow,
        facts: &Facts,
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
            let is_lost = |it: &String| self.progress(it).is_some_and(NodeProgress::is_lost);
            if delivery.after.iter().any(is_lost) {
                self.settled.remove(&index);
            }
        }
        for progress in self.nodes.values_mut() {
            if matches!(progress, NodeProgress::Failed | NodeProgress::Unreachable) {
                *progress = NodeProgress::Waiting;
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
        let node = workflow.nodes.iter().find(|it| it.name == *name);
        let Some(NodeProgress::Open { failures }) = self.progress(name) else {
            return Err(IllegalEvent(event));
        };
        let Some(node) = node else { return Err(IllegalEvent(event)) };
        let (progress, action) = concluded(node, failures, event);
        self.nodes.insert(node.name.clone(), progress);
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
    fn settle(&mut self, workflow: &Workflow, facts: &Facts, actions: &mut Vec<Action>) {
        // Each node comes after those it waits for: one pass reaches all.
        for node in &workflow.nodes {
            if self.progress(&node.name) == Some(NodeProgress::Waiting) {
                self.settle_node(node, facts, actions);
            }
        }
        for (index, delivery) in workflow.deliveries.iter().enumerate() {
            if !self.settled.contains(&index) {
                self.settle_delivery(index, delivery, actions);
            }
        }
        let is_going =
            |it: &NodeProgress| matches!(it, NodeProgress::Waiting | NodeProgress::Open { .. });
        if self.end.is_some() || self.nodes.values().any(is_going) {
            return;
        }
        let has = |progress| self.nodes.values().any(|it| *it == progress);
        let end = if has(NodeProgress::Cancelled) {
            End::Cancelled
        } else if has(NodeProgress::Failed) {
            End::Failed
        } else {
            End::Completed
        };
        self.end = Some(end);
        actions.push(Action::End(end));
    }

    fn settle_node(&mut self, node: &Node, facts: &Facts, actions: &mut Vec<Action>) {
        let before = |name: &String| self.progress(name).map(|it| (name.clone(), it));
        let before: Vec<(String, NodeProgress)> = node.after.iter().filter_map(before).collect();
        let name = node.name.clone();
        let skip = |reason: String| {
            let node = name.clone();
            Action::Skip { node, reason, is_cancelled: false }
        };
        if let Some((lost, _)) = before.iter().find(|(_, it)| it.is_lost()) {
            let reason = format!("node `{lost}` gave nothing");
            self.nodes.insert(name.clone(), NodeProgress::Unreachable);
            actions.push(skip(reason));
            return;
        }
        let is_over = |it: NodeProgress| matches!(it, NodeProgress::Done | NodeProgress::Skipped);
        if !before.iter().all(|(_, it)| is_over(*it)) {
            return;
        }
        match node.when.as_ref().map(|it| (it.text(), it.holds(facts))) {
            None | Some((_, Ok(true))) => {
                self.nodes.insert(name.clone(), NodeProgress::Open { failures: 0 });
                let (wait, reason) = (Duration::ZERO, String::new());
                actions.push(Action::Open { node: name, wait, reason });
            }
            Some((text, Ok(false))) => {
                let reason = format!("`{text}` does not hold");
                self.nodes.insert(name.clone(), NodeProgress::Skipped);
                actions.push(skip(reason));
            }
            Some((_, Err(error))) => {
                self.nodes.insert(name.clone(), NodeProgress::Failed);
                actions.push(Action::Escalate { node: name, reason: error.to_string() });
            }
        }
    }

    fn settle_delivery(&mut self, index: usize, delivery: &Delivery, actions: &mut Vec<Action>) {
        let needed: Vec<(&String, NodeProgress)> =
            delivery.after.iter().filter_map(|it| Some((it, self.progress(it)?))).collect();
        if let Some((lost, _)) = needed.iter().find(|(_, it)| it.is_lost()) {
            let reason = format!("node `{lost}` gave nothing");
            self.settled.insert(index);
            actions.push(Action::HoldBack { index, reason });
            return;
        }
        let is_over = |it: NodeProgress| matches!(it, NodeProgress::Done | NodeProgress::Skipped);
        if !needed.iter().all(|(_, it)| is_over(*it)) {
            return;
        }
        self.settled.insert(index);
        if needed.iter().any(|(_, it)| *it == NodeProgress::Done) {
            actions.push(Action::Deliver { index });
        } else {
            let reason = "every node it waits for was skipped".to_owned();
            actions.push(Action::HoldBack { index, reason });
        }
    }
}

impl NodeProgress {
    /// Whether it will never give anything to those who wait for it.
    const fn is_lost(self) -> bool {
        matches!(self, Self::Failed | Self::Unreachable | Self::Cancelled)
    }
}

fn concluded(node: &Node, failures: u32, event: RunEvent) -> (NodeProgress, Action) {
    let name = node.name.clone();
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
