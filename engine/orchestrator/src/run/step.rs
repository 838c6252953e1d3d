//! Which rows and events follow from an event of a run. Reads and writes nothing; hours of the day are
//! those of the machine's time zone.

use std::time::Duration;

use contracts::{
    Block, NewDelivery, NewTask, NodeChange, NodeRunner, NodeState, RunEnd, RunRecord, RunStep,
};
use domain::event::{
    EventBody, NodeCancelled, NodeEnd, NodeFailed, NodeGivenUp, NodeSkipped, NodeSucceeded,
    ReviewRequested, RunCancelled, RunCompleted, RunFailed,
};
use domain::{BlockReason, Event, NodeOutput, Outcome, Subject, TaskKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use workflow::{Action, End, Facts, NodeFacts, Run, RunEvent, Workflow};

use crate::configuration::Destinations;
use crate::timing::after;

/// The state of a run as the database stores it between two events.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredRun {
    pub(crate) run: Run,
    /// The facts that its conditions ask about: those of its beginning, and of the nodes since.
    facts: Facts,
}

/// What the first step of a run is made with.
pub(crate) struct StepContext<'a> {
    /// Names the library that each node will use to the end.
    pub(crate) runner: &'a dyn NodeRunner,
    /// Where reports may be sent.
    pub(crate) destinations: &'a Destinations,
    /// The time of the decision.
    pub(crate) now: Timestamp,
}

/// The first step of a run: every node with its plugin, and the nodes that can be opened at once.
pub(crate) fn first_step(
    workflow: &Workflow,
    run: &Run,
    actions: Vec<Action>,
    context: &StepContext<'_>,
    subject: &Subject,
    facts: &Facts,
) -> RunStep {
    let mut step = RunStep::default();
    for name in run.steps(workflow) {
        let plugin = workflow.node_of(&name).and_then(|it| context.runner.pin(it.plugin()?));
        step.nodes.push(NodeChange { plugin, ..node_change(name, NodeState::Waiting) });
    }
    let destinations = Some(context.destinations);
    let mut builder = StepBuilder { workflow, destinations, subject, now: context.now, step };
    for action in actions {
        builder.apply(action, &mut None);
    }
    let stored = StoredRun { run: run.clone(), facts: facts.clone() };
    builder.step.state = serde_json::to_value(stored).unwrap_or_default();
    builder.step
}

/// What events of a run are recorded about.
pub(crate) fn subject_of(record: &RunRecord) -> Subject {
    Subject {
        patient: record.patient,
        study: record.study.as_ref().map(ToString::to_string),
        message: record.message,
        run: Some(record.id),
        ..Subject::default()
    }
}

/// What an event changes in a run; `None` if the event cannot happen now, or if this program
/// cannot read the state of the run.
///
/// `output` is what the node produced, for [`RunEvent::Succeeded`]. Without `destinations` (a
/// command that runs beside the engine), no delivery is blocked for want of a signature; such
/// events deliver nothing.
pub(crate) fn next_step(
    record: &RunRecord,
    workflow: &Workflow,
    event: RunEvent,
    mut output: Option<NodeOutput>,
    destinations: Option<&Destinations>,
    now: Timestamp,
) -> Option<RunStep> {
    let mut stored: StoredRun = serde_json::from_value(record.state.clone()).ok()?;
    if let (RunEvent::Succeeded { node }, Some(output)) = (&event, &output) {
        let name = workflow.node_of(node).map_or_else(|| node.clone(), |it| it.name.clone());
        stored.facts.nodes.entry(name).or_default().add(NodeFacts::done(output));
    }
    let actions = stored.run.apply(workflow, &mut stored.facts, event).ok()?;
    let subject = subject_of(record);
    let step = RunStep::default();
    let mut builder = StepBuilder { workflow, destinations, subject: &subject, now, step };
    for action in actions {
        builder.apply(action, &mut output);
    }
    builder.step.state = serde_json::to_value(stored).ok()?;
    Some(builder.step)
}

/// Ends a run whose workflow or state this program cannot read any more, and gives it to a person.
pub(crate) fn unreadable_step(record: &RunRecord, node: &str) -> RunStep {
    let reason = "the workflow or the state of the run cannot be read by this version".to_owned();
    let run = subject_of(record);
    let subject = Subject { node: Some(node.to_owned()), ..run.clone() };
    let given_up = NodeGivenUp(NodeEnd { reason: reason.clone() });
    let mut events = vec![Event::new(subject.clone(), given_up).ended(Outcome::SeriousFailure)];
    if !record.has_ended {
        let run_failed = RunFailed { reason: Some(reason.clone()) };
        events.push(Event::new(run, run_failed).ended(Outcome::SeriousFailure));
    }
    let failed = node_change(node.to_owned(), NodeState::Failed);
    RunStep {
        state: record.state.clone(),
        end: (!record.has_ended).then_some(RunEnd::Failed),
        nodes: vec![NodeChange { reason: reason.clone(), ..failed }],
        tasks: vec![NewTask { kind: TaskKind::NodeGivenUp, subject, reason }],
        events,
        ..RunStep::default()
    }
}

/// A node in a new state, and nothing else about it.
fn node_change(node: String, state: NodeState) -> NodeChange {
    NodeChange {
        node,
        state,
        run_after: None,
        due: None,
        plugin: None,
        output: None,
        reason: String::new(),
    }
}

/// Turns the actions of a run into rows and events.
struct StepBuilder<'a> {
    workflow: &'a Workflow,
    destinations: Option<&'a Destinations>,
    subject: &'a Subject,
    now: Timestamp,
    step: RunStep,
}

impl StepBuilder<'_> {
    fn apply(&mut self, action: Action, output: &mut Option<NodeOutput>) {
        match action {
            Action::Open { node, wait, reason } => {
                if !reason.is_empty() {
                    let failed = NodeFailed { reason: reason.clone(), wait_ms: millis(wait) };
                    self.record(&node, failed, Outcome::MinorFailure);
                }
                self.open(node, reason, wait);
            }
            Action::Close { node } => {
                self.record(&node, NodeSucceeded {}, Outcome::Success);
                let done = node_change(node, NodeState::Done);
                self.step.nodes.push(NodeChange { output: output.take(), ..done });
            }
            Action::Escalate { node, reason } => self.escalate(node, reason),
            Action::Skip { node, reason, is_cancelled: true } => {
                let cancelled = NodeCancelled(NodeEnd { reason: reason.clone() });
                self.record(&node, cancelled, Outcome::Success);
                let change = node_change(node, NodeState::Cancelled);
                self.step.nodes.push(NodeChange { reason, ..change });
            }
            Action::Skip { node, reason, is_cancelled: false } => {
                let skipped = NodeSkipped(NodeEnd { reason: reason.clone() });
                self.record(&node, skipped, Outcome::Success);
                let change = node_change(node, NodeState::Skipped);
                self.step.nodes.push(NodeChange { reason, ..change });
            }
            Action::Deliver { index } => {
                let blocked = self.signature_block(index);
                self.deliver(index, blocked);
            }
            Action::HoldBack { index, reason } => {
                self.deliver(index, Some(Block { by: BlockReason::NoResult, reason }));
            }
            Action::End(end) => self.end(end),
        }
    }

    /// Lets a node be worked on, after a wait and within its hours of the day.
    fn open(&mut self, node: String, reason: String, wait: Duration) {
        let definition = self.workflow.node_of(&node);
        let earliest = after(self.now, wait);
        let local = earliest.to_zoned(TimeZone::system());
        let minute_of_day =
            u32::from(local.hour().unsigned_abs()) * 60 + u32::from(local.minute().unsigned_abs());
        let until_open = definition.and_then(|it| it.window).map(|it| it.wait(minute_of_day));
        let run_after = after(earliest, until_open.unwrap_or_default());
        let due = definition.and_then(|it| it.sla).map(|it| after(self.now, it));
        let role = definition.and_then(|it| it.role());
        let state = if role.is_some() { NodeState::InReview } else { NodeState::Ready };
        if let Some(role) = role {
            let requested = ReviewRequested { role: role.to_owned() };
            self.record(&node, requested, Outcome::Success);
        }
        let change = node_change(node, state);
        let run_after = Some(run_after);
        self.step.nodes.push(NodeChange { run_after, due, reason, ..change });
    }

    /// Fails a node for good, and gives it to a person.
    fn escalate(&mut self, node: String, reason: String) {
        let given_up = NodeGivenUp(NodeEnd { reason: reason.clone() });
        self.record(&node, given_up, Outcome::SeriousFailure);
        // A result that a person rejected in review needs no other person to look at it.
        let is_review = self.workflow.node_of(&node).is_some_and(|it| it.role().is_some());
        if !is_review {
            let subject = Subject { node: Some(node.clone()), ..self.subject.clone() };
            let kind = TaskKind::NodeGivenUp;
            self.step.tasks.push(NewTask { kind, subject, reason: reason.clone() });
        }
        self.step.nodes.push(NodeChange { reason, ..node_change(node, NodeState::Failed) });
    }

    /// Records an event of a node.
    fn record<B: EventBody>(&mut self, node: &str, body: B, outcome: Outcome) {
        let subject = Subject { node: Some(node.to_owned()), ..self.subject.clone() };
        self.step.events.push(Event::new(subject, body).ended(outcome));
    }

    /// Why an EHR must not get a delivery: nobody has signed it (HL7-52).
    fn signature_block(&self, index: usize) -> Option<Block> {
        let delivery = self.workflow.deliveries.get(index)?;
        let site = self.destinations?.get(&delivery.to)?;
        let is_for_ehr = delivery.what.iter().any(|it| it.is_for_ehr());
        let is_signed = self.workflow.is_after_review(delivery);
        (is_for_ehr && !is_signed && !site.allow_unverified).then(|| unsigned(&delivery.to))
    }

    fn deliver(&mut self, index: usize, blocked: Option<Block>) {
        let Some(delivery) = self.workflow.deliveries.get(index) else { return };
        self.step.deliveries.push(NewDelivery {
            index,
            destination: delivery.to.clone(),
            what: delivery.what.clone(),
            blocked,
        });
    }

    fn end(&mut self, end: End) {
        let subject = self.subject.clone();
        let (end, event) = match end {
            End::Completed => (RunEnd::Completed, Event::new(subject, RunCompleted {})),
            End::Failed => {
                let failed = Event::new(subject, RunFailed { reason: None });
                (RunEnd::Failed, failed.ended(Outcome::SeriousFailure))
            }
            End::Cancelled => (RunEnd::Cancelled, Event::new(subject, RunCancelled {})),
        };
        metrics::counter!("orchestrator_runs_total", "outcome" => end.name()).increment(1);
        self.step.end = Some(end);
        self.step.events.push(event);
    }
}

/// Blocks a delivery to a destination that accepts no results that nobody has signed (HL7-52).
pub(crate) fn unsigned(destination: &str) -> Block {
    Block {
        by: BlockReason::Unverified,
        reason: format!(
            "`{destination}` takes no unverified results (allow_unverified is not set)"
        ),
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
