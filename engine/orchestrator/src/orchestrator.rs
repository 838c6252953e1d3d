use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::{Archive, CommitmentReporter, Destination, Live, NodeRunner, Store};
use domain::WorkflowRef;
use report::{Engine, Recipient, Templates};
use uuid::Uuid;
use workflow::Workflow;

use crate::in_hand::InHand;
use crate::keep_going::keep_going;

/// How long to wait after the database failed.
pub(crate) const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long to wait for an announcement before looking anyway.
pub(crate) const POLL: Duration = Duration::from_secs(1);

/// How long something may be worked on before somebody else may take it.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How often a lease is renewed.
pub(crate) const RENEWAL: Duration = Duration::from_secs(5);

/// A workflow that takes studies or messages now.
#[derive(Clone, Debug)]
pub struct ActiveWorkflow {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// Its name and digest.
    pub reference: WorkflowRef,
    /// Its file.
    pub text: String,
}

/// A destination, and what the site says of it.
#[derive(Clone)]
pub struct SiteDestination {
    /// Where to.
    pub destination: Arc<dyn Destination>,
    /// Who it is, and what it wants things written as.
    pub recipient: Recipient,
    /// Whether it takes reports that nobody has signed (HL7-52).
    pub allow_unverified: bool,
    /// Whether it gets a report anew whose patient turned out to be another (HL7-34). If not, it
    /// hears of that from the same messages as we do.
    pub resends_on_identity_change: bool,
    /// Whether it gets nothing more, until a person says so, once it did not take something for good
    /// (HL7-14).
    pub pauses_on_failure: bool,
}

/// The destinations of a site, by name.
pub type Destinations = BTreeMap<String, SiteDestination>;

/// Everything that happens to studies.
pub struct Orchestrator {
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// Where bytes lie.
    pub archive: Arc<dyn Archive>,
    /// Who works on nodes.
    pub runner: Arc<dyn NodeRunner>,
    /// What takes studies and messages.
    pub workflows: Live<Vec<ActiveWorkflow>>,
    /// Where reports go.
    pub destinations: Live<Destinations>,
    /// Who tells peers that we answer for what they sent.
    pub reporter: Arc<dyn CommitmentReporter>,
    /// What they look like.
    pub templates: Templates,
    /// Who we are.
    pub engine: Engine,
    /// Attempts at nodes that are being worked on here.
    pub nodes_in_hand: InHand<(Uuid, String, i32)>,
    /// Deliveries that are being made here.
    pub deliveries_in_hand: InHand<Uuid>,
    /// Workflows of runs that began with another version, read again.
    pub versions: Mutex<BTreeMap<String, Arc<Workflow>>>,
}

/// What goes on as long as the engine does.
type Part = fn(Arc<Orchestrator>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

impl Orchestrator {
    /// Does all there is to do, until the futures it gives are dropped: one for decisions, `nodes`
    /// for work on nodes, `deliveries` for sending, one for what others left undone.
    pub async fn run(self: &Arc<Self>, nodes: usize, deliveries: usize) {
        let mut tasks = tokio::task::JoinSet::new();
        let mut part = |name: &'static str, work: Part| {
            let this = Arc::clone(self);
            tasks.spawn(keep_going(name, move || work(Arc::clone(&this))));
        };
        part("decisions", |it| Box::pin(async move { it.assemble().await }));
        part("abandoned work", |it| Box::pin(async move { it.take_up_abandoned().await }));
        part("storage commitment", |it| Box::pin(async move { it.answer_commitments().await }));
        part("corrections", |it| Box::pin(async move { it.take_in_corrections().await }));
        for _ in 0..nodes {
            part("nodes", |it| Box::pin(async move { it.work_on_nodes().await }));
        }
        for _ in 0..deliveries {
            part("deliveries", |it| Box::pin(async move { it.deliver().await }));
        }
        tasks.join_all().await;
    }

    /// The workflow of a run, in the version the run began with.
    pub(crate) fn version(&self, reference: &WorkflowRef, text: &str) -> Option<Arc<Workflow>> {
        let workflows = self.workflows.get();
        let current = workflows.iter().find(|it| it.reference == *reference);
        if let Some(current) = current {
            return Some(Arc::clone(&current.workflow));
        }
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = versions.get(&reference.digest) {
            return Some(Arc::clone(known));
        }
        let read = Arc::new(workflow::reread(&reference.name, text).ok()?);
        versions.insert(reference.digest.clone(), Arc::clone(&read));
        Some(read)
    }
}
