//! What the engine stands on, watched: the database and the disk; and what is removed from them once
//! its time is over.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contracts::{
    Archive, Intake as _, Live, Refusal, RefusalReason, Removable, Store as _, StoreError,
};
use domain::{Action, Actor, ErrorChain, Event, Outcome, Subject};
use orchestrator::IntakeService;
use rustix::fs::statvfs;
use serde_json::json;
use store::{PgStore, RetentionTerms};
use tracing::{error, info, warn};

use crate::config::Keeping;

/// However large the disk is: with less than this free, it is full.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// How often the database and the disk are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How often what is over is removed.
const PASS: Duration = Duration::from_mins(10);

/// Why nothing is taken in safe mode.
pub(crate) const HELD: &str = "the engine is in safe mode";

/// How full a disk is.
struct Fill {
    percent: u64,
    free: u64,
}

/// What is watched, and who is told.
pub(crate) struct Surroundings {
    pub(crate) store: Arc<PgStore>,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) intake: Arc<IntakeService>,
    pub(crate) data: PathBuf,
    pub(crate) keeping: Arc<Live<Keeping>>,
}

impl Surroundings {
    /// Watches, and removes what is over, until the future is dropped.
    pub(crate) async fn watch(self) {
        tokio::join!(
            watch(&self.store, &self.intake, &self.data, &self.keeping),
            remove_what_is_over(&self.store, self.archive.as_ref(), &self.keeping),
        );
    }
}

/// Closes the intake while the disk is full or the database away, and opens it again (ACC-05).
async fn watch(store: &PgStore, intake: &IntakeService, data: &Path, keeping: &Live<Keeping>) {
    let mut has_warned = false;
    loop {
        let limits = keeping.get().disk;
        let fill = fill(data);
        let is_filling = fill.as_ref().is_some_and(|it| it.percent > u64::from(limits.warn));
        if is_filling && !has_warned {
            warn_of(store, fill.as_ref(), limits.warn).await;
        }
        has_warned = is_filling;
        let is_full = fill
            .is_some_and(|it| it.free < FREE_BYTES_MIN || it.percent > u64::from(limits.refuse));
        let held = tokio::time::timeout(Duration::from_secs(5), store.is_intake_held());
        let why = match held.await {
            Ok(Ok(true)) => Some(HELD),
            Ok(Ok(false)) => is_full.then_some("the disk is full"),
            _ => Some("the database does not answer"),
        };
        let why = why.map(|it| Refusal::new(RefusalReason::OutOfResources, it));
        match (&why, intake.is_open()) {
            (Some(why), Ok(())) => error!(reason = why.comment, "the intake is closed"),
            (None, Err(_)) => info!("the intake is open again"),
            _ => {}
        }
        intake.set_closed(why);
        tokio::time::sleep(LOOK).await;
    }
}

fn fill(data: &Path) -> Option<Fill> {
    let it = statvfs(data).ok()?;
    // As `df` counts: what is reserved for root is neither.
    let used = it.f_blocks.saturating_sub(it.f_bfree);
    let percent = (used.saturating_mul(100)).div_ceil((used + it.f_bavail).max(1));
    metrics::gauge!("archive_disk_used_ratio").set(percent as f64 / 100.0);
    Some(Fill { percent, free: it.f_bavail * it.f_frsize })
}

async fn warn_of(store: &PgStore, fill: Option<&Fill>, limit: u8) {
    let percent = fill.map_or(0, |it| it.percent);
    warn!(percent, limit, "the disk is filling up: make room, or see `isocenter retention`");
    let detail = json!({"percent": percent, "warn": limit});
    let event = Event::engine("disk_filling", Action::E, Subject::default(), detail);
    if let Err(error) = store.append(vec![event.ended(Outcome::MinorFailure)]).await {
        error!(error = %ErrorChain(&error), "a warning cannot be put on record");
    }
}

/// Removes what is over, again and again.
async fn remove_what_is_over(store: &PgStore, archive: &dyn Archive, keeping: &Live<Keeping>) {
    loop {
        let terms = keeping.get().terms;
        match remove_once(store, archive, &terms, &Actor::engine()).await {
            Ok(Removed { things: 0, files: 0 }) => {}
            Ok(Removed { things, files }) => info!(things, files, "what was over was removed"),
            // What is left waits for the next time.
            Err(error) => error!(error = %ErrorChain(&error), "what is over cannot be removed"),
        }
        tokio::time::sleep(PASS).await;
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Studies' images, messages and runs' results.
    pub(crate) things: u64,
    /// Files of images and artifacts.
    pub(crate) files: u64,
}

/// Removes what is over now.
pub(crate) async fn remove_once(
    store: &PgStore,
    archive: &dyn Archive,
    terms: &RetentionTerms,
    by: &Actor,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    for expired in store.expired(terms).await? {
        removed.things += u64::from(store.remove_expired(&expired, terms, by.clone()).await?);
    }
    let [instances, artifacts] = store.files_to_remove().await?;
    let instances = instances.iter().map(|it| (it, Removable::Instance(it)));
    let artifacts = artifacts.iter().map(|it| (it, Removable::Artifact(it)));
    for (sha256, file) in instances.chain(artifacts) {
        match archive.remove(file).await {
            Ok(true) => {
                store.note_file_gone(sha256).await?;
                removed.files += 1;
            }
            Ok(false) => {}
            Err(error) => error!(%error, sha256, "a file cannot be removed"),
        }
    }
    Ok(removed)
}
