//! Applies events to runs, each in one transaction with everything that follows from it.

use std::sync::Arc;

use contracts::{NodeAttempt, NodeFailure, NodeRunner, RunRecord, RunStep, RunStore, StoreError};
use domain::event::{EventBody, OtherPatientOnPages, RunCancelAsked, RunRetryAsked};
use domain::{Actor, Event, NodeOutput, Outcome, Subject};
use jiff::Timestamp;
use uuid::Uuid;
use workflow::{RunEvent, Workflow};

use super::step::{next_step, subject_of, unreadable_step};
use crate::configuration::{LiveConfiguration, WorkflowVersions};

/// Advances and cancels runs.
pub(crate) struct RunControl {
    store: Arc<dyn RunStore>,
    runner: Arc<dyn NodeRunner>,
    configuration: Arc<LiveConfiguration>,
    versions: WorkflowVersions,
}

impl RunControl {
    pub(crate) fn new(
        store: Arc<dyn RunStore>,
        runner: Arc<dyn NodeRunner>,
        configuration: Arc<LiveConfiguration>,
    ) -> Self {
        let versions = WorkflowVersions::new(Arc::clone(&configuration));
        Self { store, runner, configuration, versions }
    }

    /// The workflow of a run, in the version that the run began with.
    pub(crate) fn workflow_of(&self, run: &RunRecord) -> Option<Arc<Workflow>> {
        self.versions.of_run(run)
    }

    /// Records how an attempt at a node ended, and opens what comes after it.
    ///
    /// Fails with [`StoreError::Superseded`] if a newer attempt has begun.
    pub(crate) async fn finish_node(
        &self,
        attempt: &NodeAttempt,
        outcome: Result<NodeOutput, NodeFailure>,
    ) -> Result<(), StoreError> {
        let node = attempt.node.clone();
        let other_patient = outcome.as_ref().err().and_then(other_patient);
        let (event, output) = match outcome {
            Ok(output) => (RunEvent::Succeeded { node }, Some(output)),
            Err(failure) => (failure_event(node, &failure), None),
        };
        let decide = |record: &RunRecord| {
            // Without a step, the node would be claimed again and again, and nobody would notice.
            let step = self.step(record, event, output);
            let mut step = step.unwrap_or_else(|| unreadable_step(record, &attempt.node));
            let subject = Subject { node: Some(attempt.node.clone()), ..subject_of(record) };
            let found = other_patient.map(|it| Event::new(subject, it));
            step.events.extend(found.map(|it| it.ended(Outcome::SeriousFailure)));
            Some(step)
        };
        self.store.change_run(attempt.run, Some(attempt), Box::new(decide)).await
    }

    /// Cancels a run, and asks its plugins to stop.
    pub(crate) async fn cancel(&self, run: Uuid, reason: &str) -> Result<(), StoreError> {
        let event = RunEvent::Cancelled { reason: reason.to_owned() };
        let decide = |record: &RunRecord| self.step(record, event, None);
        self.store.change_run(run, None, Box::new(decide)).await?;
        self.runner.cancel(run).await;
        Ok(())
    }

    /// What an event changes in a run; `None` if the event cannot happen now.
    fn step(
        &self,
        record: &RunRecord,
        event: RunEvent,
        output: Option<NodeOutput>,
    ) -> Option<RunStep> {
        let workflow = self.workflow_of(record)?;
        let destinations = self.configuration.destinations.get();
        next_step(record, &workflow, event, output, Some(&destinations), Timestamp::now())
    }
}

fn failure_event(node: String, failure: &NodeFailure) -> RunEvent {
    match failure {
        NodeFailure::Rejected { .. } | NodeFailure::OtherPatient { .. } => {
            RunEvent::Rejected { node, reason: failure.to_string() }
        }
        NodeFailure::Retryable { .. } | NodeFailure::Cancelled => {
            RunEvent::Failed { node, reason: failure.to_string() }
        }
    }
}

/// What the trail records of pages of another patient.
fn other_patient(failure: &NodeFailure) -> Option<OtherPatientOnPages> {
    match failure {
        NodeFailure::OtherPatient { pages, fields } => {
            Some(OtherPatientOnPages { pages: pages.clone(), fields: fields.clone() })
        }
        NodeFailure::Rejected { .. } | NodeFailure::Retryable { .. } | NodeFailure::Cancelled => {
            None
        }
    }
}

/// Cancels a run on behalf of a person. False if the run has ended already.
///
/// # Errors
///
/// Fails if the database does.
pub async fn cancel_run(store: &dyn RunStore, run: Uuid, actor: Actor) -> Result<bool, StoreError> {
    let reason = format!("cancelled by {}", actor.id);
    apply_request(store, run, RunEvent::Cancelled { reason }, actor, RunCancelAsked {}).await
}

/// Retries the failed nodes of a run on behalf of a person. False if nothing in it has failed.
///
/// # Errors
///
/// Fails if the database does.
pub async fn retry_run(store: &dyn RunStore, run: Uuid, actor: Actor) -> Result<bool, StoreError> {
    apply_request(store, run, RunEvent::Retried, actor, RunRetryAsked {}).await
}

/// Applies what a person asks for, from a process that has no plugins and no destinations.
async fn apply_request<B: EventBody + Send>(
    store: &dyn RunStore,
    run: Uuid,
    event: RunEvent,
    actor: Actor,
    request: B,
) -> Result<bool, StoreError> {
    let mut is_applied = false;
    let applied = &mut is_applied;
    let decide = |record: &RunRecord| {
        let workflow = workflow::reread(&record.workflow.name, &record.definition).ok()?;
        let is_reopened = event == RunEvent::Retried;
        let step = next_step(record, &workflow, event, None, None, Timestamp::now())?;
        let request = Event::new(subject_of(record), request).by(actor);
        let mut events = vec![request];
        events.extend(step.events);
        *applied = true;
        Some(RunStep { events, is_reopened, ..step })
    };
    store.change_run(run, None, Box::new(decide)).await?;
    Ok(is_applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rejection_is_final() {
        let rejected = NodeFailure::Rejected {
            code: "geometry_inconsistent".to_owned(),
            reason: "slices are missing".to_owned(),
        };
        let reason = "geometry_inconsistent: slices are missing".to_owned();
        let node = "a".to_owned();
        assert_eq!(
            failure_event("a".to_owned(), &rejected),
            RunEvent::Rejected { node: node.clone(), reason }
        );
        let reason = "the run was cancelled".to_owned();
        assert_eq!(
            failure_event("a".to_owned(), &NodeFailure::Cancelled),
            RunEvent::Failed { node, reason }
        );
    }
}
