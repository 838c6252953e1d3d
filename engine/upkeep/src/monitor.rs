//! Runs admission, clock and retention for as long as the engine runs.

use std::path::PathBuf;
use std::sync::Arc;

use contracts::{Archive, Live};
use orchestrator::IntakeService;
use store::PgStore;
use supervisor::supervise;

use crate::policy::UpkeepPolicy;
use crate::{admission, clock, retention};

/// The watch over an installation: its database, its disk and its clock.
pub struct Monitor {
    /// The database.
    pub store: Arc<PgStore>,
    /// The archive that expired files are removed from.
    pub archive: Arc<dyn Archive>,
    /// The intake that is opened and closed.
    pub intake: Arc<IntakeService>,
    /// The folder whose disk is measured.
    pub data: PathBuf,
    /// The rules that hold now.
    pub policy: Arc<Live<UpkeepPolicy>>,
}

impl Monitor {
    /// Runs until the future is dropped. A part that panics is started again.
    pub async fn run(self) {
        tokio::join!(
            supervise("the disk", || {
                admission::watch(&self.store, &self.intake, &self.data, &self.policy)
            }),
            supervise("the clock", || clock::watch(&self.store)),
            supervise("retention", || {
                retention::run(&self.store, self.archive.as_ref(), &self.policy)
            }),
        );
    }
}
