//! Has the nodes of runs worked on, and writes down what comes of it.

use std::time::Duration;

use contracts::{
    ClaimedNode, NodeCall, NodeFailure, RunRecord, RunStep, Store, StoreError, WorkKind,
};
use domain::{Action as Doing, Actor, ErrorChain, Event, NodeOutput};
use jiff::Timestamp;
use serde_json::json;
use tracing::{error, info, warn};
use uuid::Uuid;
use workflow::{RunEvent, Work};

use crate::input::{files, node_input, removed};
use crate::orchestrator::{AFTER_FAILURE, LEASE, Orchestrator, POLL, RENEWAL};
use crate::step::{Kept, Pins, step, step_of, subject, unreadable};

/// How long a PACS may take to commit what it took (DIN-34).
const COMMITMENT_PATIENCE: Duration = Duration::from_hours(24);

impl Orchestrator {
    /// Works on one node after the other.
    pub(crate) async fn work_on_nodes(&self) {
        loop {
            match self.store.claim_node(LEASE).await {
                Ok(Some(claimed)) => {
                    let _held = self.nodes_in_hand.take((
                        claimed.run.id,
                        claimed.node.clone(),
                        claimed.attempt,
                    ));
                    self.work_on(claimed).await;
                }
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
        let Work::Plugin { settings, .. } = &node.work else {
            return Some(Err(retryable("a review is no work for a plugin")));
        };
        let kept: Option<Kept> = serde_json::from_value(claimed.run.state.clone()).ok();
        let item = kept.as_ref().and_then(|it| it.run.item(&claimed.node));
        let call = NodeCall {
            run: claimed.run.id,
            node: claimed.node.clone(),
            plugin: claimed.plugin.clone(),
            settings: settings.clone(),
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
                if self.nodes_in_hand.holds(&(run, node.clone(), attempt)) {
                    continue;
                }
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
