//! Claims nodes of runs and has plugins work on them.

use std::sync::Arc;

use contracts::{
    Archive, ClaimedNode, Decoder, NodeAttempt, NodeCall, NodeFailure, NodeRunner, Notifications,
    RunStore, StoreError, WorkKind,
};
use domain::{ErrorChain, NodeOutput};
use jiff::Timestamp;
use tracing::{error, info, warn};
use workflow::Work;

use super::control::RunControl;
use super::image_facts;
use super::node_input::{check_files, files, node_input};
use super::page_patient;
use super::step::StoredRun;
use crate::in_flight::InFlight;
use crate::timing::{DATABASE_RETRY_DELAY, LEASE, LEASE_RENEWAL, POLL_INTERVAL};

/// Works on nodes, one after the other per worker.
pub(crate) struct RunWorker {
    store: Arc<dyn RunStore>,
    notifications: Arc<dyn Notifications>,
    archive: Arc<dyn Archive>,
    decoder: Arc<dyn Decoder>,
    runner: Arc<dyn NodeRunner>,
    control: Arc<RunControl>,
    in_flight: InFlight<NodeAttempt>,
}

impl RunWorker {
    pub(crate) fn new(
        store: Arc<dyn RunStore>,
        notifications: Arc<dyn Notifications>,
        archive: Arc<dyn Archive>,
        decoder: Arc<dyn Decoder>,
        runner: Arc<dyn NodeRunner>,
        control: Arc<RunControl>,
    ) -> Self {
        let in_flight = InFlight::default();
        Self { store, notifications, archive, decoder, runner, control, in_flight }
    }

    /// Whether a worker of this process is busy with this attempt.
    pub(crate) fn is_in_flight(&self, attempt: &NodeAttempt) -> bool {
        self.in_flight.contains(attempt)
    }

    /// Claims and works on one node after the other, forever.
    pub(crate) async fn run_worker(self: Arc<Self>) {
        loop {
            match self.store.claim_node(LEASE).await {
                Ok(Some(claimed)) => {
                    let _guard = self.in_flight.begin(claimed.attempt());
                    self.work_on(claimed).await;
                }
                Ok(None) => self.notifications.wait_for(WorkKind::Node, POLL_INTERVAL).await,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "no node can be claimed");
                    tokio::time::sleep(DATABASE_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn work_on(&self, claimed: ClaimedNode) {
        let attempt = claimed.attempt();
        let (run, node) = (attempt.run, attempt.node.as_str());
        info!(%run, node, attempt = attempt.number, plugin = claimed.plugin.name, "node started");
        let Some(outcome) = self.execute(claimed).await else {
            info!(%run, node, "the node was claimed by another worker, or the run was cancelled");
            return;
        };
        let label = if outcome.is_ok() { "succeeded" } else { "failed" };
        metrics::counter!("orchestrator_nodes_total", "outcome" => label).increment(1);
        match &outcome {
            Ok(_) => info!(%run, node, "node succeeded"),
            Err(failure) => warn!(%run, node, %failure, "node failed"),
        }
        // What was computed is not thrown away because the database is down for a moment.
        while let Err(error) = self.control.finish_node(&attempt, outcome.clone()).await {
            if matches!(error, StoreError::Superseded) {
                return;
            }
            error!(error = %ErrorChain(&error), "the end of a node cannot be recorded");
            tokio::time::sleep(DATABASE_RETRY_DELAY).await;
        }
    }

    /// Has the plugin work on the node. `None` if the lease was lost: the outcome is not wanted.
    async fn execute(&self, claimed: ClaimedNode) -> Option<Result<NodeOutput, NodeFailure>> {
        let attempt = claimed.attempt();
        let call = match self.call(&claimed) {
            Ok(call) => call,
            Err(failure) => return Some(Err(failure)),
        };
        if let Err(failure) = check_files(&call.files).await {
            return Some(Err(failure));
        }
        let patient = claimed.patient;
        // The lease is renewed while headers are read, too: a study may have thousands.
        let work = self.run_plugin(call);
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => {
                    return Some(outcome.and_then(|it| page_patient::checked(it, patient.as_ref())));
                }
                () = tokio::time::sleep(LEASE_RENEWAL) => {
                    let renewed = self.store.renew_node(&attempt, LEASE).await;
                    if matches!(renewed, Err(StoreError::Superseded)) {
                        self.runner.cancel(attempt.run).await;
                        // The plugin gets a moment to stop. Its output is dropped.
                        _ = tokio::time::timeout(LEASE_RENEWAL, &mut work).await;
                        return None;
                    }
                }
            }
        }
    }

    /// Completes the input by what the headers of its images state, and runs the plugin.
    async fn run_plugin(&self, mut call: NodeCall) -> Result<NodeOutput, NodeFailure> {
        call.input = image_facts::completed(call.input, &call.files, &*self.decoder).await?;
        self.runner.run(call).await
    }

    /// Builds the call of the plugin from the rows of the node.
    fn call(&self, claimed: &ClaimedNode) -> Result<NodeCall, NodeFailure> {
        let workflow = self
            .control
            .workflow_of(&claimed.run)
            .ok_or_else(|| retryable("the workflow of the run cannot be read any more"))?;
        let node = workflow
            .node_of(&claimed.node)
            .ok_or_else(|| retryable("the workflow of the run has no such node"))?;
        let Work::Plugin { settings, .. } = &node.work else {
            return Err(retryable("a review is not work for a plugin"));
        };
        let stored: Option<StoredRun> = serde_json::from_value(claimed.run.state.clone()).ok();
        let item = stored.as_ref().and_then(|it| it.run.item(&claimed.node));
        Ok(NodeCall {
            run: claimed.run.id,
            node: claimed.node.clone(),
            plugin: claimed.plugin.clone(),
            settings: settings.clone(),
            input: node_input(claimed, node, item, Timestamp::now()),
            files: files(&claimed.series, self.archive.as_ref()),
            deadline: node.timeout,
        })
    }
}

fn retryable(reason: &str) -> NodeFailure {
    NodeFailure::Retryable { reason: reason.to_owned() }
}
