//! Sealing that does not go on: logged when its reason changes and then seldom, with a task for a
//! person until the trail fits again (AUD-03).

use std::time::{Duration, Instant};

use contracts::{NewTask, StoreError};
use domain::{ErrorChain, Subject, TaskKind, TrailFault};
use tracing::{error, info};

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Result, StoreResult};
use crate::run::task;
use crate::trail::fault::fault_text;

/// How long the same reason is not logged again.
const LOG_PERIOD: Duration = Duration::from_mins(10);

/// What came of an attempt to seal a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// A batch was sealed.
    Sealed,
    /// There was nothing to seal.
    Nothing,
    /// Another sealer works.
    OfAnother,
    /// The trail does not fit what was signed and counted.
    Refused(TrailFault),
}

/// Why nothing is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// A person has to decide.
    Unfit(TrailFault),
    /// The database or a file cannot be read or written: the next attempt may succeed.
    Failed(String),
}

/// What people were told about the attempts of a sealer.
#[derive(Default)]
pub(super) struct Refusals {
    logged: Option<Logged>,
    tasks: Tasks,
}

struct Logged {
    reason: Reason,
    at: Instant,
}

/// What the tasks say, as far as it is known. They outlive the engine.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Tasks {
    #[default]
    Unknown,
    /// None is open.
    Closed,
    /// One is open, with this fault.
    Open(TrailFault),
}

impl Refusals {
    /// Logs an attempt that failed, and opens or closes the task.
    pub(super) async fn tell(&mut self, store: &PgStore, attempt: &StoreResult<Attempt>) {
        let reason = match attempt {
            Ok(Attempt::OfAnother) => return,
            Ok(Attempt::Sealed | Attempt::Nothing) => None,
            Ok(Attempt::Refused(fault)) => Some(Reason::Unfit(*fault)),
            Err(error) => Some(Reason::Failed(ErrorChain(error).to_string())),
        };
        if self.is_due(reason.as_ref(), Instant::now()) {
            match &reason {
                None => info!("sealing goes on"),
                Some(Reason::Unfit(fault)) => error!(
                    reason = fault_text(*fault),
                    "nothing is sealed until a person decides: `isocenter trail accept-loss`"
                ),
                Some(Reason::Failed(error)) => error!(%error, "sealing failed"),
            }
        }
        let tasks = match reason {
            None => Tasks::Closed,
            Some(Reason::Unfit(fault)) => Tasks::Open(fault),
            Some(Reason::Failed(_)) => return,
        };
        if tasks == self.tasks {
            return;
        }
        match write_tasks(store, tasks).await {
            Ok(()) => self.tasks = tasks,
            // The next attempt tries again.
            Err(error) => {
                let error: StoreError = error.into();
                error!(error = %ErrorChain(&error), "the task about sealing cannot be written");
            }
        }
    }

    /// Whether a reason, or that there is none any more, is to be logged now. Notes that it is.
    fn is_due(&mut self, reason: Option<&Reason>, now: Instant) -> bool {
        let Some(reason) = reason else { return self.logged.take().is_some() };
        let is_known = self.logged.as_ref().is_some_and(|it| {
            it.reason == *reason && now.saturating_duration_since(it.at) < LOG_PERIOD
        });
        if !is_known {
            self.logged = Some(Logged { reason: reason.clone(), at: now });
        }
        !is_known
    }
}

/// Opens the task about a fault and closes those about others; closes all if there is none.
async fn write_tasks(store: &PgStore, tasks: Tasks) -> Result<()> {
    let kind = TaskKind::SealingRefused;
    let mut tx = store.begin().await?;
    if let Tasks::Open(fault) = tasks {
        let advice = "nothing is sealed until a person accepts it: `isocenter trail accept-loss`";
        let reason = format!("{}; {advice}", fault_text(fault));
        task::close(&mut tx, kind, &reason, "the reason is another one now").await?;
        task::open_once(&mut tx, &NewTask { kind, subject: Subject::default(), reason }).await?;
    } else {
        task::close(&mut tx, kind, "", "the trail fits again, and is sealed").await?;
    }
    commit(tx).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aud_03_a_reason_is_logged_when_it_changes_and_then_seldom() {
        let mut refusals = Refusals::default();
        let begin = Instant::now();
        let mut is_due = |reason: Option<&Reason>, seconds: u64| {
            refusals.is_due(reason, begin + Duration::from_secs(seconds))
        };
        let missing = Reason::Unfit(TrailFault::CheckpointsMissing);
        let failed = Reason::Failed("no connection".to_owned());
        assert!(!is_due(None, 0));
        let logged: Vec<u64> = (0..1_300).filter(|it| is_due(Some(&missing), *it)).collect();
        assert_eq!(logged, [0, 600, 1_200]);
        assert!(is_due(Some(&failed), 1_300));
        assert!(is_due(Some(&missing), 1_301));
        assert!(is_due(None, 1_302));
        assert!(!is_due(None, 1_303));
    }
}
