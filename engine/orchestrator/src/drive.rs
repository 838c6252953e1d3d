//! Has the nodes of runs worked on, and writes down what comes of it.

use std::sync::Arc;
use std::time::Duration;

use contracts::{
    ClaimedNode, NewDelivery, NewTask, NodeCall, NodeChange, NodeFailure, NodeRunner, NodeState,
    OutputKind, RunEnd, RunRecord, RunStep, Store, StoreError, WorkKind,
};
use domain::{Action as Doing, Actor, ErrorChain, Event, NodeOutput, Outcome, Subject};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{error, info, warn};
use uuid::Uuid;
use workflow::{Action, End, Facts, NodeFacts, Run, RunEvent, Workflow};

use crate::completion::after;
use crate::input::{files, node_input, removed};
use crate::orchestrator::{AFTER_FAILURE, Destinations, LEASE, Orchestrator, POLL, RENEWAL};

/// How long a PACS may take to commit what it took (DIN-34).
const COMMITMENT_PATIENCE: Duration = Duration::from_hours(24);

/// What is kept of a run between its events.
#[derive(Serialize, Deserialize)]
struct Kept {
    run: Run,
    /// The facts its conditions ask about, as they were when it began.
    facts: Facts,
}

/// What a run needs to know of its surroundings when it takes a step.
pub struct Pins<'a> {
    /// Which plugins there are.
    pub runner: &'a dyn NodeRunner,
    /// Where reports may go.
    pub destinations: &'a Destinations,
}

impl Orchestrator {
    /// Works on one node after the other.
    pub(crate) async fn work_on_nodes(&self) {
        loop {
            match self.store.claim_node(LEASE).await {
                Ok(Some(claimed)) => self.work_on(claimed).await,
                Ok(None) => self.store.wait_for(WorkKind::Node, POLL).await,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "no node can be claimed");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn work_on(&self, claimed: ClaimedNode) {
        let (run, node, attempt) = (claimed.run.id, claimed.node.clone(), claimed.attempt);
        info!(%run, node, attempt, plugin = claimed.plugin.name, "node started");
        let Some(outcome) = self.attempt(claimed).await else {
            info!(%run, node, "somebody else went on with the node, or the run was cancelled");
            return;
        };
        let label = if outcome.is_ok() { "succeeded" } else { "failed" };
        metrics::counter!("orchestrator_nodes_total", "outcome" => label).increment(1);
        match &outcome {
            Ok(_) => info!(%run, node, "node succeeded"),
            Err(failure) => warn!(%run, node, %failure, "node failed"),
        }
        // What was computed is not thrown away because the database is down for a moment.
        while let Err(error) = self.conclude(run, &node, attempt, outcome.clone()).await {
            if matches!(error, StoreError::Superseded) {
                return;
            }
            error!(error = %ErrorChain(&error), "the end of a node cannot be put on record");
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }

    /// Tries a node. Gives nothing if it is not ours any more.
    async fn attempt(&self, claimed: ClaimedNode) -> Option<Result<NodeOutput, NodeFailure>> {
        let retryable = |reason: &str| NodeFailure::Retryable { reason: reason.to_owned() };
        let Some(workflow) = self.version(&claimed.run.workflow, &claimed.run.definition) else {
            return Some(Err(retryable("the workflow of the run cannot be read any more")));
        };
        let Some(node) = workflow.node_of(&claimed.node) else {
            return Some(Err(retryable("the workflow of the run has no such node")));
        };
        let kept: Option<Kept> = serde_json::from_value(claimed.run.state.clone()).ok();
        let item = kept.as_ref().and_then(|it| it.run.item(&claimed.node));
        let call = NodeCall {
            run: claimed.run.id,
            node: claimed.node.clone(),
            plugin: claimed.plugin.clone(),
            settings: node.settings.clone(),
            input: node_input(&claimed, node, item),
            files: files(&claimed.series, self.archive.as_ref()),
            deadline: node.timeout,
        };
        if let Some(failure) = removed(&call.files).await {
            return Some(Err(failure));
        }
        let (run, name, attempt) = (claimed.run.id, claimed.node.clone(), claimed.attempt);
        let work = self.runner.run(call);
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return Some(outcome),
                () = tokio::time::sleep(RENEWAL) => {
                    let renewed = self.store.renew_node(run, &name, attempt, LEASE).await;
                    if matches!(renewed, Err(StoreError::Superseded)) {
                        self.runner.cancel(run).await;
                        // It is given a moment to stop; what it still gives is not wanted.
                        _ = tokio::time::timeout(RENEWAL, &mut work).await;
                        return None;
                    }
                }
            }
        }
    }

    async fn conclude(
        &self,
        run: Uuid,
        node: &str,
        attempt: i32,
        outcome: Result<NodeOutput, NodeFailure>,
    ) -> Result<(), StoreError> {
        let name = node.to_owned();
        let (event, output) = match outcome {
            Ok(output) => (RunEvent::Succeeded { node: name }, Some(output)),
            Err(NodeFailure::Rejected { code, reason }) => {
                (RunEvent::Rejected { node: name, reason: format!("{code}: {reason}") }, None)
            }
            Err(NodeFailure::Retryable { reason }) => {
                (RunEvent::Failed { node: name, reason }, None)
            }
            Err(NodeFailure::Cancelled) => {
                let reason = "the run was cancelled".to_owned();
                (RunEvent::Failed { node: name, reason }, None)
            }
        };
        let decide = |record: &RunRecord| {
            // Without a step the node would be taken up again and again, and nobody would know.
            self.step(record, event, output).or_else(|| Some(unreadable(record, node)))
        };
        self.store.change_run(run, Some((node, attempt)), Box::new(decide)).await
    }

    /// What an event changes in a run. Nothing, if it cannot happen.
    fn step(
        &self,
        record: &RunRecord,
        event: RunEvent,
        output: Option<NodeOutput>,
    ) -> Option<RunStep> {
        let workflow = self.version(&record.workflow, &record.definition)?;
        let destinations = self.destinations.get();
        let pins = Pins { runner: self.runner.as_ref(), destinations: &destinations };
        step(record, &workflow, event, output, &pins, Timestamp::now())
    }

    /// Takes a run back.
    pub(crate) async fn cancel(&self, run: Uuid, reason: &str) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        let decide = |record: &RunRecord| self.step(record, RunEvent::Cancelled { reason }, None);
        self.store.change_run(run, None, Box::new(decide)).await?;
        self.runner.cancel(run).await;
        Ok(())
    }

    /// Gives back nodes whose worker is gone.
    pub(crate) async fn take_up_abandoned(&self) {
        loop {
            tokio::time::sleep(RENEWAL / 2).await;
            let destinations = self.destinations.get();
            let wants =
                |it: &str| destinations.get(it).is_some_and(|it| it.resends_on_identity_change);
            if let Err(error) = self.store.decide_corrections(&wants).await {
                error!(error = %ErrorChain(&error), "corrections cannot be decided on");
            }
            if let Err(error) = self.store.tell_overdue().await {
                error!(error = %ErrorChain(&error), "overdue work cannot be looked for");
            }
            if let Err(error) = self.store.give_up_promises(COMMITMENT_PATIENCE).await {
                error!(error = %ErrorChain(&error), "missing commitments cannot be looked for");
            }
            let abandoned = match self.store.abandoned_nodes().await {
                Ok(abandoned) => abandoned,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "abandoned nodes cannot be looked for");
                    continue;
                }
            };
            for (run, node, attempt) in abandoned {
                warn!(%run, node, attempt, "the worker of a node is gone");
                let reason = "its worker was gone".to_owned();
                let lost = Err(NodeFailure::Retryable { reason });
                // Somebody else may have been faster; or it is tried at the next look.
                if let Err(error) = self.conclude(run, &node, attempt, lost).await {
                    warn!(error = %ErrorChain(&error), "an abandoned node was not taken up");
                }
            }
        }
    }
}

/// Takes a run back, for a person.
///
/// # Errors
///
/// Fails if the database does.
pub async fn cancel_run(store: &dyn Store, run: Uuid, actor: Actor) -> Result<bool, StoreError> {
    let reason = format!("cancelled by {}", actor.id);
    change(store, run, RunEvent::Cancelled { reason }, actor, "run_cancel_asked").await
}

/// Has what failed in a run tried again, for a person.
///
/// # Errors
///
/// Fails if the database does.
pub async fn retry_run(store: &dyn Store, run: Uuid, actor: Actor) -> Result<bool, StoreError> {
    change(store, run, RunEvent::Retried, actor, "run_retry_asked").await
}

async fn change(
    store: &dyn Store,
    run: Uuid,
    event: RunEvent,
    actor: Actor,
    kind: &str,
) -> Result<bool, StoreError> {
    let mut is_done = false;
    let done = &mut is_done;
    let decide = |record: &RunRecord| {
        let workflow = workflow::reread(&record.workflow.name, &record.definition).ok()?;
        let is_reopened = event == RunEvent::Retried;
        let step = step_of(record, &workflow, event, None, None, Timestamp::now())?;
        let asked = Event::engine(kind, Doing::U, subject(record), json!({})).by(actor);
        let mut events = vec![asked];
        events.extend(step.events);
        *done = true;
        Some(RunStep { events, is_reopened, ..step })
    };
    store.change_run(run, None, Box::new(decide)).await?;
    Ok(is_done)
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
        let plugin = workflow.node_of(&name).and_then(|it| pins.runner.pin(&it.plugin));
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

fn subject(record: &RunRecord) -> Subject {
    Subject {
        patient: record.patient,
        study: record.study.as_ref().map(ToString::to_string),
        message: record.message,
        run: Some(record.id),
        ..Subject::default()
    }
}

fn step(
    record: &RunRecord,
    workflow: &Arc<Workflow>,
    event: RunEvent,
    output: Option<NodeOutput>,
    pins: &Pins<'_>,
    now: Timestamp,
) -> Option<RunStep> {
    step_of(record, workflow, event, output, Some(pins.destinations), now)
}

fn step_of(
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
fn unreadable(record: &RunRecord, node: &str) -> RunStep {
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
        tasks: vec![NewTask { kind: "node_given_up".to_owned(), subject, reason: reason.clone() }],
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
                let subject = Subject { node: Some(node.clone()), ..self.subject.clone() };
                let kind = "node_given_up".to_owned();
                self.step.tasks.push(NewTask { kind, subject, reason: reason.clone() });
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
            Action::HoldBack { index, reason } => self.deliver(index, Some(reason)),
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
        self.step.nodes.push(NodeChange {
            node: step,
            state: NodeState::Ready,
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
    fn unverified(&self, index: usize) -> Option<String> {
        let delivery = self.workflow.deliveries.get(index)?;
        let site = self.destinations?.get(&delivery.to)?;
        let is_for_ehr = delivery.what.iter().any(|it| it == OutputKind::Oru.name());
        (is_for_ehr && !site.allow_unverified).then(|| {
            format!("`{}` takes no unverified results (allow_unverified is not set)", delivery.to)
        })
    }

    fn deliver(&mut self, index: usize, blocked: Option<String>) {
        let Some(delivery) = self.workflow.deliveries.get(index) else { return };
        let kinds = [OutputKind::Seg, OutputKind::Sr, OutputKind::Oru, OutputKind::Json];
        let what = kinds.into_iter().filter(|it| delivery.what.iter().any(|w| w == it.name()));
        let (destination, what) = (delivery.to.clone(), what.collect());
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

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
