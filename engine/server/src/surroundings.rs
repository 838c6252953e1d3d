//! What the engine stands on, watched: the database and the disk; and what is removed from them once
//! its time is over.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::{Archive, Live, Refusal, RefusalReason, Removable, Store as _, StoreError};
use domain::{Action, Actor, ErrorChain, Event, Outcome, Subject};
use orchestrator::{IntakeService, Taking, keep_going};
use rustix::fs::statvfs;
use serde_json::json;
use store::{PgStore, RetentionTerms};
use tracing::{error, info, warn};

use crate::config::{DiskConfig, Keeping};

/// However large the disk is: with less than this free, it is full.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// How often the database and the disk are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The least that a clock which is set jumps by, in microseconds. One that is only slewed does not.
const JUMP_MICROS_MIN: u64 = 2_000_000;

/// An answer that took longer may have been given long ago.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Longest wait for an answer of the database.
const DATABASE_WAIT: Duration = Duration::from_secs(5);

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
            keep_going("the disk", || watch(&self.store, &self.intake, &self.data, &self.keeping)),
            keep_going("the clock", || watch_clock(&self.store)),
            keep_going("retention", || {
                remove_what_is_over(&self.store, self.archive.as_ref(), &self.keeping)
            }),
        );
    }
}

/// Narrows the intake and closes it while the disk fills up or the database is away, and opens it again by
/// itself (ACC-05).
async fn watch(store: &PgStore, intake: &IntakeService, data: &Path, keeping: &Live<Keeping>) {
    let mut has_warned = false;
    let mut since = Instant::now();
    loop {
        let limits = keeping.get().disk;
        let fill = fill(data);
        let is_filling = fill.as_ref().is_some_and(|it| it.percent > u64::from(limits.warn));
        if is_filling && !has_warned {
            warn_of(store, fill.as_ref(), limits.warn).await;
        }
        has_warned = is_filling;
        let taking = taking(store, fill.as_ref(), limits).await;
        let before = intake.set_taking(taking.clone());
        if before != taking {
            tell(store, &before, &taking, since.elapsed()).await;
            since = Instant::now();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What can be taken just now.
async fn taking(store: &PgStore, fill: Option<&Fill>, limits: DiskConfig) -> Taking {
    let refusal = |why: &str| Refusal::new(RefusalReason::OutOfResources, why);
    match tokio::time::timeout(DATABASE_WAIT, store.is_intake_held()).await {
        Ok(Ok(false)) => {}
        Ok(Ok(true)) => return Taking::Nothing(refusal(HELD)),
        _ => return Taking::Nothing(refusal("the database does not answer")),
    }
    let is_over = |limit: u8| fill.is_some_and(|it| it.percent > u64::from(limit));
    if is_over(limits.refuse) || fill.is_some_and(|it| it.free < FREE_BYTES_MIN) {
        Taking::Nothing(refusal("the disk is full"))
    } else if is_over(limits.turn_away()) {
        Taking::Inside(refusal("the disk is nearly full"))
    } else {
        Taking::All
    }
}

/// Puts on record what is taken from now on, and for how long it was otherwise.
async fn tell(store: &PgStore, before: &Taking, now: &Taking, since: Duration) {
    let reason = |of: &Taking| match of {
        Taking::All => None,
        Taking::Inside(why) | Taking::Nothing(why) => Some(why.comment.clone()),
    };
    let kind = match now {
        Taking::All => "intake_opened",
        Taking::Inside(_) => "intake_narrowed",
        Taking::Nothing(_) => "intake_closed",
    };
    let (why, was) = (reason(now), reason(before));
    match &why {
        None => info!("the intake is open again"),
        Some(why) => error!(reason = why, kind, "not everything is taken in"),
    }
    let detail = json!({"reason": why, "before": was, "seconds_before": since.as_secs()});
    let outcome = if why.is_none() { Outcome::Success } else { Outcome::MinorFailure };
    let event = Event::engine(kind, Action::E, Subject::default(), detail).ended(outcome);
    // Without the database there is nowhere to write it; when it is back, that is written, and why.
    let told = tokio::time::timeout(DATABASE_WAIT, store.append(vec![event])).await;
    if !matches!(told, Ok(Ok(()))) {
        warn!(kind, "it cannot be put on record");
    }
}

/// Looks whether the clock goes as time does. If it has jumped, all that waits for its time is moved with it.
async fn watch_clock(store: &PgStore) {
    let mut last: Option<(Instant, i64)> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let asked = Instant::now();
        let Ok(clock) = store.clock().await else { continue };
        if asked.elapsed() > ANSWER_MAX {
            continue;
        }
        let (since, then) = last.unwrap_or((asked, clock));
        let passed = i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX);
        let jumped = clock.saturating_sub(then).saturating_sub(passed);
        if jumped.unsigned_abs() >= JUMP_MICROS_MIN {
            warn!(milliseconds = jumped / 1000, "the clock jumped; what waits is moved with it");
            if let Err(error) = store.clock_jumped(then, jumped).await {
                error!(error = %ErrorChain(&error), "what waits cannot be moved yet");
                // Compared with the time before, it is found again.
                continue;
            }
        }
        last = Some((asked, clock));
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
