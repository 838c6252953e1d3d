//! What an event changes in a run: rows and events. Pure.

use std::sync::Arc;
use std::time::Duration;

use contracts::{
    Block, NewDelivery, NewTask, NodeChange, NodeRunner, NodeState, RunEnd, RunRecord, RunStep,
};
use domain::{Action as Doing, BlockReason, Event, NodeOutput, Outcome, Subject, TaskKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::json;
use workflow::{Action, End, Facts, NodeFacts, Run, RunEvent, Workflow};

use crate::completion::after;
use crate::orchestrator::Destinations;

/// What is kept of a run between its events.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) run: Run,
    /// The facts its conditions ask about, as they were when it began.
    facts: Facts,
}

/// What a run needs to know of its surroundings when it takes a step.
pub(crate) struct Pins<'a> {
    /// Which plugins there are.
    pub(crate) runner: &'a dyn NodeRunner,
    /// Where reports may go.
    pub(crate) destinations: &'a Destinations,
}

/// The first step of a run: every node with its plugin, and what can be opened at once.
pub(crate) fn begin_step(
    workflow: &Workflow,
    run: &Run,
    actions: Vec<Action>,
    pins: &Pins<'_>,
    subject: &Subject,
    now: Timestamp,
    facts: &Facts,
) -> RunStep {
    let mut step = RunStep::default();
    for name in run.steps(workflow) {
        let plugin = workflow.node_of(&name).and_then(|it| pins.runner.pin(it.plugin()?));
        step.nodes.push(NodeChange {
            node: name,
            state: NodeState::Waiting,
            run_after: None,
            due: None,
            plugin,
            output: None,
            reason: String::new(),
        });
    }
    let mut writer = Writer { workflow, destinations: Some(pins.destinations), subject, now, step };
    for action in actions {
        writer.write(action, &mut None);
    }
    let kept = Kept { run: run.clone(), facts: facts.clone() };
    writer.step.state = serde_json::to_value(kept).unwrap_or_default();
    writer.step
}

pub(crate) fn subject(record: &RunRecord) -> Subject {
    Subject {
        patient: record.patient,
        study: record.study.as_ref().map(ToString::to_string),
        message: record.message,
        run: Some(record.id),
        ..Subject::default()
    }
}

pub(crate) fn step(
    record: &RunRecord,
    workflow: &Arc<Workflow>,
    event: RunEvent,
    output: Option<NodeOutput>,
    pins: &Pins<'_>,
    now: Timestamp,
) -> Option<RunStep> {
    step_of(record, workflow, event, output, Some(pins.destinations), now)
}

pub(crate) fn step_of(
    record: &RunRecord,
    workflow: &Workflow,
    event: RunEvent,
    mut output: Option<NodeOutput>,
    destinations: Option<&Destinations>,
    now: Timestamp,
) -> Option<RunStep> {
    let mut kept: Kept = serde_json::from_value(record.state.clone()).ok()?;
    if let (RunEvent::Succeeded { node }, Some(output)) = (&event, &output) {
        let name = workflow.node_of(node).map_or_else(|| node.clone(), |it| it.name.clone());
        kept.facts.nodes.entry(name).or_default().add(NodeFacts::done(output));
    }
    let actions = kept.run.apply(workflow, &mut kept.facts, event).ok()?;
    let subject = subject(record);
    let step = RunStep::default();
    let mut writer = Writer { workflow, destinations, subject: &subject, now, step };
    for action in actions {
        writer.write(action, &mut output);
    }
    writer.step.state = serde_json::to_value(kept).ok()?;
    Some(writer.step)
}

/// Gives up a run whose workflow or state this program cannot read any more.
pub(crate) fn unreadable(record: &RunRecord, node: &str) -> RunStep {
    let reason = "the workflow or the state of the run cannot be read by this version".to_owned();
    let run = subject(record);
    let subject = Subject { node: Some(node.to_owned()), ..run.clone() };
    let tell = |kind: &str, subject: &Subject| {
        let event = Event::engine(kind, Doing::E, subject.clone(), json!({"reason": reason}));
        event.ended(Outcome::SeriousFailure)
    };
    let mut events = vec![tell("node_given_up", &subject)];
    if !record.has_ended {
        events.push(tell("run_failed", &run));
    }
    RunStep {
        state: record.state.clone(),
        end: (!record.has_ended).then_some(RunEnd::Failed),
        nodes: vec![NodeChange {
            node: node.to_owned(),
            state: NodeState::Failed,
            run_after: None,
            due: None,
            plugin: None,
            output: None,
            reason: reason.clone(),
        }],
        tasks: vec![NewTask { kind: TaskKind::NodeGivenUp, subject, reason: reason.clone() }],
        events,
        ..RunStep::default()
    }
}

/// Turns actions of a run into rows and events.
struct Writer<'a> {
    workflow: &'a Workflow,
    destinations: Option<&'a Destinations>,
    subject: &'a Subject,
    now: Timestamp,
    step: RunStep,
}

impl Writer<'_> {
    fn write(&mut self, action: Action, output: &mut Option<NodeOutput>) {
        match action {
            Action::Open { node, wait, reason } => {
                if !reason.is_empty() {
                    let detail = json!({"reason": reason, "wait_ms": millis(wait)});
                    self.tell("node_failed", &node, detail, Outcome::MinorFailure);
                }
                self.open(node, reason, wait);
            }
            Action::Close { node } => {
                self.tell("node_succeeded", &node, json!({}), Outcome::Success);
                self.change(node, NodeState::Done, String::new(), output.take());
            }
            Action::Escalate { node, reason } => {
                let detail = json!({"reason": reason});
                self.tell("node_given_up", &node, detail, Outcome::SeriousFailure);
                // What a person has rejected nobody has to look at again.
                let is_review = self.workflow.node_of(&node).is_some_and(|it| it.role().is_some());
                let subject = Subject { node: Some(node.clone()), ..self.subject.clone() };
                let kind = TaskKind::NodeGivenUp;
                let task = NewTask { kind, subject, reason: reason.clone() };
                self.step.tasks.extend((!is_review).then_some(task));
                self.change(node, NodeState::Failed, reason, None);
            }
            Action::Skip { node, reason, is_cancelled } => {
                let (state, kind) = if is_cancelled {
                    (NodeState::Cancelled, "node_cancelled")
                } else {
                    (NodeState::Skipped, "node_skipped")
                };
                self.tell(kind, &node, json!({"reason": reason}), Outcome::Success);
                self.change(node, state, reason, None);
            }
            Action::Deliver { index } => {
                let blocked = self.unverified(index);
                self.deliver(index, blocked);
            }
            Action::HoldBack { index, reason } => {
                self.deliver(index, Some(Block { by: BlockReason::NoResult, reason }));
            }
            Action::End(end) => self.end(end),
        }
    }

    /// Lets a step be worked on, after a wait and in its hours of the day.
    fn open(&mut self, step: String, reason: String, wait: Duration) {
        let node = self.workflow.node_of(&step);
        let run_after = after(self.now, wait);
        let local = run_after.to_zoned(TimeZone::system());
        let minutes =
            u32::from(local.hour().unsigned_abs()) * 60 + u32::from(local.minute().unsigned_abs());
        let until_open = node.and_then(|it| it.window).map(|it| it.wait(minutes));
        let run_after = after(run_after, until_open.unwrap_or_default());
        let due = node.and_then(|it| it.sla).map(|it| after(self.now, it));
        let role = node.and_then(|it| it.role());
        let state = if role.is_some() { NodeState::InReview } else { NodeState::Ready };
        if let Some(role) = role {
            self.tell("review_requested", &step, json!({"role": role}), Outcome::Success);
        }
        self.step.nodes.push(NodeChange {
            node: step,
            state,
            run_after: Some(run_after),
            due,
            plugin: None,
            output: None,
            reason,
        });
    }

    fn tell(&mut self, kind: &str, node: &str, detail: serde_json::Value, outcome: Outcome) {
        let subject = Subject { node: Some(node.to_owned()), ..self.subject.clone() };
        self.step.events.push(Event::engine(kind, Doing::E, subject, detail).ended(outcome));
    }

    fn change(
        &mut self,
        node: String,
        state: NodeState,
        reason: String,
        output: Option<NodeOutput>,
    ) {
        let (run_after, due, plugin) = (None, None, None);
        self.step.nodes.push(NodeChange { node, state, run_after, due, plugin, output, reason });
    }

    /// Why an EHR must not get this: nobody has signed it (HL7-52).
    fn unverified(&self, index: usize) -> Option<Block> {
        let delivery = self.workflow.deliveries.get(index)?;
        let site = self.destinations?.get(&delivery.to)?;
        let is_for_ehr = delivery.what.iter().any(|kind| kind.is_for_ehr());
        let is_reviewed = self.workflow.is_after_review(delivery);
        (is_for_ehr && !is_reviewed && !site.allow_unverified).then(|| unverified(&delivery.to))
    }

    fn deliver(&mut self, index: usize, blocked: Option<Block>) {
        let Some(delivery) = self.workflow.deliveries.get(index) else { return };
        let (destination, what) = (delivery.to.clone(), delivery.what.clone());
        self.step.deliveries.push(NewDelivery { index, destination, what, blocked });
    }

    fn end(&mut self, end: End) {
        let (end, kind, outcome) = match end {
            End::Completed => (RunEnd::Completed, "run_completed", Outcome::Success),
            End::Failed => (RunEnd::Failed, "run_failed", Outcome::SeriousFailure),
            End::Cancelled => (RunEnd::Cancelled, "run_cancelled", Outcome::Success),
        };
        metrics::counter!("orchestrator_runs_total", "outcome" => end.name()).increment(1);
        self.step.end = Some(end);
        let event = Event::engine(kind, Doing::E, self.subject.clone(), json!({}));
        self.step.events.push(event.ended(outcome));
    }
}

/// Why a destination does not get what nobody has signed (HL7-52).
pub(crate) fn unverified(destination: &str) -> Block {
    let reason =
        format!("`{destination}` takes no unverified results (allow_unverified is not set)");
    Block { by: BlockReason::Unverified, reason }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
