//! What a site runs with at the moment: its active workflows and its destinations.
//!
//! Both are replaced while the engine runs, when the site file, a plugin or an activation
//! changes. A run in progress keeps the version of the workflow that it began with:
//! [`WorkflowVersions`] finds that version again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use contracts::{Destination, Live, RunRecord};
use domain::WorkflowRef;
use report::Recipient;
use workflow::Workflow;

/// A workflow that new studies or messages may start.
#[derive(Clone, Debug)]
pub struct ActiveWorkflow {
    /// The checked workflow.
    pub workflow: Arc<Workflow>,
    /// Its name and the digest of its text and settings.
    pub reference: WorkflowRef,
    /// The YAML text, stored with every run so that the run can be continued by its own version.
    pub text: String,
}

/// A destination with what the site file states about it.
#[derive(Clone)]
pub struct SiteDestination {
    /// Sends what is delivered.
    pub destination: Arc<dyn Destination>,
    /// The receiving system, and the codes and character set it wants.
    pub recipient: Recipient,
    /// Whether it accepts reports that nobody has signed (HL7-52).
    pub allow_unverified: bool,
    /// Whether it gets a corrected report when the patient of a delivered one turns out to be
    /// another (HL7-34). If not, it learns of that from the same ADT messages as the engine does.
    pub resends_on_identity_change: bool,
    /// Whether a delivery that failed for good stops all later ones until a person resumes them
    /// (HL7-14).
    pub pauses_on_failure: bool,
}

/// The destinations of a site, by name.
pub type Destinations = BTreeMap<String, SiteDestination>;

/// The parts of the configuration that change while the engine runs.
pub struct LiveConfiguration {
    /// The workflows that may start.
    pub workflows: Live<Vec<ActiveWorkflow>>,
    /// Where reports may be sent.
    pub destinations: Live<Destinations>,
}

impl LiveConfiguration {
    /// Starts with these workflows and destinations.
    pub fn new(workflows: Vec<ActiveWorkflow>, destinations: Destinations) -> Self {
        Self { workflows: Live::new(workflows), destinations: Live::new(destinations) }
    }
}

/// Finds the workflow of a run in the version that the run began with.
pub(crate) struct WorkflowVersions {
    configuration: Arc<LiveConfiguration>,
    /// Versions that are no longer active, by digest, parsed from the text that their runs store.
    retired: Mutex<BTreeMap<String, Arc<Workflow>>>,
}

impl WorkflowVersions {
    pub(crate) fn new(configuration: Arc<LiveConfiguration>) -> Self {
        Self { configuration, retired: Mutex::default() }
    }

    /// The workflow of a run, or `None` if this program cannot read that version.
    pub(crate) fn of_run(&self, run: &RunRecord) -> Option<Arc<Workflow>> {
        let workflows = self.configuration.workflows.get();
        if let Some(active) = workflows.iter().find(|it| it.reference == run.workflow) {
            return Some(Arc::clone(&active.workflow));
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = retired.get(&run.workflow.digest) {
            return Some(Arc::clone(known));
        }
        let workflow = Arc::new(workflow::reread(&run.workflow.name, &run.definition).ok()?);
        retired.insert(run.workflow.digest.clone(), Arc::clone(&workflow));
        Some(workflow)
    }
}
