//! Decides which studies and messages start which workflows (DIN-50..54, HL7-40..44).
//!
//! - [`StudyAssembly`] claims studies and messages that are due, and stores what was decided.
//! - [`policy`] decides, purely: a study, the workflows and the time in, what to do out.
//! - [`completeness`] weighs the evidence for and against a study being complete.
//! - [`later_results`] decides what a corrected result means for those before it.
//! - [`facts`] is what conditions can ask about a study, and what a run on it is known by.
//!
//! A study is looked at whenever something about it changed, and at the time that the decision
//! before named.

use std::sync::Arc;

use contracts::{
    AssemblyStore, MessageSnapshot, NodeRunner, Notifications, StoreError, StudySnapshot, WorkKind,
};
use domain::ErrorChain;
use jiff::Timestamp;
use tracing::error;

use crate::configuration::LiveConfiguration;
use crate::run::RunControl;
use crate::timing::{DATABASE_RETRY_DELAY, POLL_INTERVAL};

mod completeness;
mod facts;
mod later_results;
mod policy;
mod subject;

use policy::AssemblyPolicy;

/// Starts runs on studies and messages.
pub(crate) struct StudyAssembly {
    store: Arc<dyn AssemblyStore>,
    notifications: Arc<dyn Notifications>,
    runner: Arc<dyn NodeRunner>,
    configuration: Arc<LiveConfiguration>,
    runs: Arc<RunControl>,
}

impl StudyAssembly {
    pub(crate) fn new(
        store: Arc<dyn AssemblyStore>,
        notifications: Arc<dyn Notifications>,
        runner: Arc<dyn NodeRunner>,
        configuration: Arc<LiveConfiguration>,
        runs: Arc<RunControl>,
    ) -> Self {
        Self { store, notifications, runner, configuration, runs }
    }

    /// Decides about one study or batch of messages after the other, forever.
    pub(crate) async fn run_worker(self: Arc<Self>) {
        loop {
            match self.decide_next().await {
                Ok(true) => {}
                Ok(false) => {
                    self.notifications.wait_for(WorkKind::Assembly, POLL_INTERVAL / 5).await;
                }
                Err(error) => {
                    error!(error = %ErrorChain(&error), "no study or message can be decided");
                    tokio::time::sleep(DATABASE_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Decides about what is due. False if nothing is.
    async fn decide_next(&self) -> Result<bool, StoreError> {
        // Both are asked: a study that cannot be decided must not hold up messages.
        let study = self.decide_next_study().await;
        let messages = self.decide_next_messages().await;
        let has_study = study?;
        let has_messages = messages?;
        Ok(has_study || has_messages)
    }

    async fn decide_next_study(&self) -> Result<bool, StoreError> {
        let workflows = self.configuration.workflows.get();
        let destinations = self.configuration.destinations.get();
        let now = Timestamp::now();
        let runner = self.runner.as_ref();
        let policy =
            AssemblyPolicy { workflows: &workflows, runner, destinations: &destinations, now };
        let mut to_cancel = Vec::new();
        let cancellations = &mut to_cancel;
        let decide = Box::new(move |study: &StudySnapshot| {
            let decision = policy.decide_study(study);
            *cancellations = decision.cancellations;
            decision.step
        });
        let has_study = self.store.decide_study(now, decide).await?;
        for it in to_cancel {
            self.runs.cancel(it.run, it.reason).await?;
        }
        Ok(has_study)
    }

    async fn decide_next_messages(&self) -> Result<bool, StoreError> {
        let workflows = self.configuration.workflows.get();
        let destinations = self.configuration.destinations.get();
        let now = Timestamp::now();
        let runner = self.runner.as_ref();
        let policy =
            AssemblyPolicy { workflows: &workflows, runner, destinations: &destinations, now };
        let mut to_cancel = Vec::new();
        let cancellations = &mut to_cancel;
        let decide = Box::new(move |message: &MessageSnapshot| {
            let decision = policy.decide_message(message);
            cancellations.extend(decision.cancellations);
            decision.step
        });
        let has_messages = self.store.decide_messages(decide).await?;
        for it in to_cancel {
            self.runs.cancel(it.run, it.reason).await?;
        }
        Ok(has_messages)
    }
}
