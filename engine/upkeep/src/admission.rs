//! Opens, narrows and closes the intake as the database and the disk allow (ACC-05).
//!
//! An acknowledged image is a durable image. While the database does not answer or the disk is
//! full, nothing could be made durable: the intake refuses, with a reason that makes senders try
//! again, and opens automatically once there is room. Every change is an event in the trail.

use std::path::Path;
use std::time::{Duration, Instant};

use contracts::{Live, Refusal, RefusalReason, TrailStore as _};
use domain::event::{DiskFilling, IntakeChange, IntakeClosed, IntakeNarrowed, IntakeOpened};
use domain::{ErrorChain, Event, Outcome, Subject};
use orchestrator::{AdmissionPolicy, IntakeService};
use store::PgStore;
use tracing::{error, info, warn};

use crate::disk::{DiskLevel, DiskUsage};
use crate::policy::UpkeepPolicy;

/// How often the database and the disk are examined.
const INTERVAL: Duration = Duration::from_millis(500);

/// The longest wait for an answer of the database.
const DATABASE_TIME_MAX: Duration = Duration::from_secs(5);

/// How long the database may be silent before the intake refuses: a restart or a stall of some
/// seconds is waited for by those who are connected, and by those who connect meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The reason senders see while a start in safe mode holds the intake.
pub const SAFE_MODE: &str = "the engine is in safe mode";

/// Nothing is accepted, for a reason that invites the sender to try again later.
pub fn closed(reason: &str) -> AdmissionPolicy {
    AdmissionPolicy::Closed(congestion(reason))
}

fn congestion(reason: &str) -> Refusal {
    Refusal::new(RefusalReason::OutOfResources, reason)
}

/// What the database says about the intake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatabaseState {
    /// It answers, and nothing is held.
    Ready,
    /// It answers that a person has to release the intake after a start in safe mode.
    Held,
    /// It does not answer.
    Away,
}

impl DatabaseState {
    async fn of(store: &PgStore) -> Self {
        match tokio::time::timeout(DATABASE_TIME_MAX, store.is_intake_on_hold()).await {
            Ok(Ok(false)) => Self::Ready,
            Ok(Ok(true)) => Self::Held,
            Ok(Err(_)) | Err(_) => Self::Away,
        }
    }
}

/// Whether the database may answer again before anybody has to be refused.
fn may_pass(database: DatabaseState, silence: Duration) -> bool {
    database == DatabaseState::Away && silence < SILENCE_MAX
}

/// What may be accepted in this state of database and disk. A disk that cannot be measured does
/// not close the intake: a write that fails does.
fn admission(database: DatabaseState, disk: Option<DiskLevel>) -> AdmissionPolicy {
    match (database, disk) {
        (DatabaseState::Held, _) => closed(SAFE_MODE),
        (DatabaseState::Away, _) => closed("the database does not answer"),
        (DatabaseState::Ready, Some(DiskLevel::Full)) => closed("the disk is full"),
        (DatabaseState::Ready, Some(DiskLevel::NearlyFull)) => {
            AdmissionPolicy::EstablishedOnly(congestion("the disk is nearly full"))
        }
        (DatabaseState::Ready, Some(DiskLevel::Filling | DiskLevel::Roomy) | None) => {
            AdmissionPolicy::Open
        }
    }
}

/// Examines database and disk until the future is dropped, and sets the intake accordingly.
pub async fn watch(
    store: &PgStore,
    intake: &IntakeService,
    data: &Path,
    policy: &Live<UpkeepPolicy>,
) {
    let mut has_warned = false;
    let mut since = Instant::now();
    let mut answered = Instant::now();
    loop {
        let marks = policy.get().disk;
        let usage = DiskUsage::measure(data);
        let level = usage.map(|it| marks.level(it));
        let is_filling = usage.is_some_and(|it| it.percent > u64::from(marks.warn));
        if is_filling && !has_warned {
            warn_of_disk(store, usage, marks.warn).await;
        }
        has_warned = is_filling;
        let database = DatabaseState::of(store).await;
        if database != DatabaseState::Away {
            answered = Instant::now();
        }
        if may_pass(database, answered.elapsed()) {
            tokio::time::sleep(INTERVAL).await;
            continue;
        }
        let now = admission(database, level);
        let before = intake.set_admission(now.clone());
        if before != now {
            record_change(store, &before, &now, since.elapsed()).await;
            since = Instant::now();
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Why less than everything is accepted. Nothing, if everything is.
fn reason(taking: &AdmissionPolicy) -> Option<&str> {
    match taking {
        AdmissionPolicy::Open => None,
        AdmissionPolicy::EstablishedOnly(refusal) | AdmissionPolicy::Closed(refusal) => {
            Some(&refusal.comment)
        }
    }
}

/// Records what is accepted from now on, and for how long it was otherwise.
async fn record_change(
    store: &PgStore,
    before: &AdmissionPolicy,
    now: &AdmissionPolicy,
    duration: Duration,
) {
    match reason(now) {
        None => info!("the intake is open again"),
        Some(reason) => error!(reason, "the intake does not accept everything"),
    }
    let change = IntakeChange {
        reason: reason(now).map(str::to_owned),
        before: reason(before).map(str::to_owned),
        seconds_before: duration.as_secs(),
    };
    let subject = Subject::default();
    let event = match now {
        AdmissionPolicy::Open => Event::new(subject, IntakeOpened(change)),
        AdmissionPolicy::EstablishedOnly(_) => {
            Event::new(subject, IntakeNarrowed(change)).ended(Outcome::MinorFailure)
        }
        AdmissionPolicy::Closed(_) => {
            Event::new(subject, IntakeClosed(change)).ended(Outcome::MinorFailure)
        }
    };
    // Without the database there is nowhere to write it; the event of its return says why it was
    // away and for how long.
    let recorded = tokio::time::timeout(DATABASE_TIME_MAX, store.append_events(vec![event])).await;
    if !matches!(recorded, Ok(Ok(()))) {
        warn!("a change of the intake cannot be recorded");
    }
}

async fn warn_of_disk(store: &PgStore, usage: Option<DiskUsage>, mark: u8) {
    let percent = usage.map_or(0, |it| it.percent);
    warn!(percent, mark, "the disk is filling up: make room, or see `isocenter retention`");
    let event = Event::new(Subject::default(), DiskFilling { percent, warn: u64::from(mark) });
    if let Err(error) = store.append_events(vec![event.ended(Outcome::MinorFailure)]).await {
        error!(error = %ErrorChain(&error), "the warning about the disk cannot be recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acc_05_without_the_database_nothing_is_accepted() {
        for disk in [None, Some(DiskLevel::Roomy), Some(DiskLevel::Full)] {
            let taking = admission(DatabaseState::Away, disk);
            assert_eq!(reason(&taking), Some("the database does not answer"), "{disk:?}");
            assert!(matches!(taking, AdmissionPolicy::Closed(_)));
        }
    }

    #[test]
    fn acc_05_a_stall_of_the_database_is_waited_for_before_anybody_is_refused() {
        let passes = |database, seconds| may_pass(database, Duration::from_secs(seconds));
        assert_eq!(
            [3, 14, 15, 60].map(|it| passes(DatabaseState::Away, it)),
            [true, true, false, false]
        );
        assert!(!passes(DatabaseState::Ready, 0) && !passes(DatabaseState::Held, 0));
    }

    #[test]
    fn safe_mode_closes_the_intake_however_much_room_there_is() {
        let taking = admission(DatabaseState::Held, Some(DiskLevel::Roomy));
        assert_eq!(taking, closed(SAFE_MODE));
    }

    #[test]
    fn sec_38_the_disk_narrows_the_intake_before_it_closes_it() {
        let of = |level| admission(DatabaseState::Ready, Some(level));
        assert_eq!(of(DiskLevel::Roomy), AdmissionPolicy::Open);
        assert_eq!(of(DiskLevel::Filling), AdmissionPolicy::Open);
        assert!(matches!(of(DiskLevel::NearlyFull), AdmissionPolicy::EstablishedOnly(_)));
        assert!(matches!(of(DiskLevel::Full), AdmissionPolicy::Closed(_)));
    }

    #[test]
    fn a_disk_that_cannot_be_measured_closes_nothing() {
        assert_eq!(admission(DatabaseState::Ready, None), AdmissionPolicy::Open);
    }

    #[test]
    fn a_refusal_invites_the_sender_to_try_again() {
        let AdmissionPolicy::Closed(refusal) = closed("for a test") else {
            unreachable!("a closed intake accepts nothing");
        };
        assert_eq!(refusal.reason, RefusalReason::OutOfResources);
    }
}
