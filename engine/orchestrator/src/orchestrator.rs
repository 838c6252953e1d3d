//! Ties the services of this crate together and runs their workers.

use std::future::Future;
use std::sync::Arc;

use contracts::{
    Archive, AssemblyStore, CommitmentReporter, CommitmentStore, CorrectionStore, Decoder,
    DeliveryStore, NodeRunner, Notifications, RunStore,
};
use report::{Engine, Templates};
use supervisor::supervise;
use tokio::task::JoinSet;

use crate::assembly::StudyAssembly;
use crate::commitment::CommitmentService;
use crate::configuration::LiveConfiguration;
use crate::corrections::CorrectionImport;
use crate::delivery::{Composer, DeliveryWorker};
use crate::housekeeping::Housekeeping;
use crate::run::{RunControl, RunWorker};

/// The parts of the database that the services use, one trait per aggregate.
pub struct Stores {
    /// Studies and messages to decide about.
    pub assembly: Arc<dyn AssemblyStore>,
    /// Runs and their nodes.
    pub runs: Arc<dyn RunStore>,
    /// Deliveries.
    pub deliveries: Arc<dyn DeliveryStore>,
    /// Requests of peers for storage commitment.
    pub commitment: Arc<dyn CommitmentStore>,
    /// Corrections from outside.
    pub corrections: Arc<dyn CorrectionStore>,
    /// Wakes workers when there is something to do.
    pub notifications: Arc<dyn Notifications>,
}

impl Stores {
    /// All parts of one database.
    pub fn of<S>(store: &Arc<S>) -> Self
    where
        S: AssemblyStore
            + RunStore
            + DeliveryStore
            + CommitmentStore
            + CorrectionStore
            + Notifications
            + 'static,
    {
        Self {
            assembly: Arc::<S>::clone(store),
            runs: Arc::<S>::clone(store),
            deliveries: Arc::<S>::clone(store),
            commitment: Arc::<S>::clone(store),
            corrections: Arc::<S>::clone(store),
            notifications: Arc::<S>::clone(store),
        }
    }
}

/// What the services are built from.
pub struct OrchestratorParts {
    /// The database.
    pub stores: Stores,
    /// The files of instances, and what plugins made.
    pub archive: Arc<dyn Archive>,
    /// Runs plugins.
    pub runner: Arc<dyn NodeRunner>,
    /// Decodes files of other systems.
    pub decoder: Arc<dyn Decoder>,
    /// Answers requests for storage commitment on associations of its own.
    pub reporter: Arc<dyn CommitmentReporter>,
    /// Active workflows and destinations.
    pub configuration: Arc<LiveConfiguration>,
    /// The site's templates of reports.
    pub templates: Templates,
    /// How reports name this engine.
    pub engine: Engine,
}

/// All services, each with its worker loops.
pub struct Orchestrator {
    assembly: Arc<StudyAssembly>,
    runs: Arc<RunWorker>,
    deliveries: Arc<DeliveryWorker>,
    commitment: Arc<CommitmentService>,
    corrections: Arc<CorrectionImport>,
    housekeeping: Arc<Housekeeping>,
}

impl Orchestrator {
    /// Builds the services. Nothing runs before [`Self::run`].
    pub fn new(parts: OrchestratorParts) -> Self {
        let OrchestratorParts { stores, archive, runner, decoder, .. } = parts;
        let configuration = parts.configuration;
        let control = Arc::new(RunControl::new(
            Arc::clone(&stores.runs),
            Arc::clone(&runner),
            Arc::clone(&configuration),
        ));
        let runs = Arc::new(RunWorker::new(
            Arc::clone(&stores.runs),
            Arc::clone(&stores.notifications),
            Arc::clone(&archive),
            Arc::clone(&decoder),
            Arc::clone(&runner),
            Arc::clone(&control),
        ));
        let assembly = Arc::new(StudyAssembly::new(
            stores.assembly,
            Arc::clone(&stores.notifications),
            runner,
            Arc::clone(&configuration),
            Arc::clone(&control),
        ));
        let composer = Composer::new(
            Arc::clone(&stores.deliveries),
            Arc::clone(&archive),
            Arc::clone(&decoder),
            parts.templates,
            parts.engine,
        );
        let deliveries = Arc::new(DeliveryWorker::new(
            Arc::clone(&stores.deliveries),
            Arc::clone(&stores.notifications),
            Arc::clone(&archive),
            Arc::clone(&configuration),
            composer,
        ));
        let commitment = Arc::new(CommitmentService::new(
            stores.commitment,
            stores.notifications,
            Arc::clone(&archive),
            parts.reporter,
        ));
        let corrections = Arc::new(CorrectionImport::new(stores.corrections, archive, decoder));
        let housekeeping = Arc::new(Housekeeping::new(
            stores.runs,
            stores.deliveries,
            configuration,
            control,
            Arc::clone(&runs),
        ));
        Self { assembly, runs, deliveries, commitment, corrections, housekeeping }
    }

    /// Runs all workers until the returned future is dropped: `node_workers` work on nodes at
    /// once, `delivery_workers` send at once, every other service has one worker.
    pub async fn run(&self, node_workers: usize, delivery_workers: usize) {
        let mut workers = JoinSet::new();
        spawn(&mut workers, "decisions", &self.assembly, StudyAssembly::run_worker);
        spawn(&mut workers, "housekeeping", &self.housekeeping, Housekeeping::run_worker);
        spawn(&mut workers, "storage commitment", &self.commitment, CommitmentService::run_worker);
        spawn(&mut workers, "corrections", &self.corrections, CorrectionImport::run_worker);
        for _ in 0..node_workers {
            spawn(&mut workers, "nodes", &self.runs, RunWorker::run_worker);
        }
        for _ in 0..delivery_workers {
            spawn(&mut workers, "deliveries", &self.deliveries, DeliveryWorker::run_worker);
        }
        workers.join_all().await;
    }
}

/// Starts one supervised worker of a service.
fn spawn<S, W, F>(workers: &mut JoinSet<()>, part: &'static str, service: &Arc<S>, worker: W)
where
    S: Send + Sync + 'static,
    W: Fn(Arc<S>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let service = Arc::clone(service);
    workers.spawn(async move { supervise(part, || worker(Arc::clone(&service))).await });
}
