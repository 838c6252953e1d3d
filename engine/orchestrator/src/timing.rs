//! Intervals that all workers share, and time arithmetic that cannot overflow.

use std::time::Duration;

use jiff::Timestamp;

/// How long to wait before the database is asked again after it failed.
pub(crate) const DATABASE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long a worker waits for a notification before it looks for work anyway.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a node or delivery may be worked on before another engine may claim it.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How often a worker renews its lease.
pub(crate) const LEASE_RENEWAL: Duration = Duration::from_secs(5);

/// The moment at which `wait` has passed since `start`; the end of time where that overflows.
pub(crate) fn after(start: Timestamp, wait: Duration) -> Timestamp {
    start.checked_add(wait).unwrap_or(Timestamp::MAX)
}
