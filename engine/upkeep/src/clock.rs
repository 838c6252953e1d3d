//! Notices that the clock was set, and moves everything scheduled by the same amount.
//!
//! The database schedules by wall-clock time. When an administrator or NTP sets the clock, every
//! timer would fire too early or too late: studies would be declared complete hours ahead. The
//! watch compares the database's clock with the monotonic clock of this process; where they differ
//! by more than slewing explains, the schedule is shifted, once per jump.

use std::time::{Duration, Instant};

use domain::ErrorChain;
use store::PgStore;
use tracing::{error, warn};

/// How often the two clocks are compared.
const INTERVAL: Duration = Duration::from_millis(500);

/// The smallest jump of a clock that was set, in microseconds. A clock that is slewed drifts less.
const JUMP_MICROS_MIN: u64 = 2_000_000;

/// The longest a reading may take to be of use: a later answer may have been given long before.
const READING_TIME_MAX: Duration = Duration::from_secs(1);

/// One comparison of the two clocks.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// The monotonic clock of this process.
    monotonic: Instant,
    /// The database's wall clock, in microseconds since 1970.
    wall_micros: i64,
}

impl Reading {
    /// By how many microseconds the wall clock moved more than time did since `earlier`. Negative
    /// if it was set back. Nothing, if the difference is no more than slewing explains.
    fn jump_since(self, earlier: Self) -> Option<i64> {
        let elapsed = self.monotonic.saturating_duration_since(earlier.monotonic).as_micros();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let jump = self.wall_micros.saturating_sub(earlier.wall_micros).saturating_sub(elapsed);
        (jump.unsigned_abs() >= JUMP_MICROS_MIN).then_some(jump)
    }
}

/// Compares the clocks until the future is dropped, and shifts the schedule after each jump.
pub async fn watch(store: &PgStore) {
    let mut last: Option<Reading> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(reading) = read(store).await else { continue };
        if let Some(earlier) = last
            && let Some(jump) = reading.jump_since(earlier)
        {
            warn!(milliseconds = jump / 1000, "the clock jumped; scheduled work is moved with it");
            if let Err(error) = store.clock_jumped(earlier.wall_micros, jump).await {
                error!(error = %ErrorChain(&error), "scheduled work cannot be moved yet");
                // The earlier reading stays: the next comparison finds the same jump.
                continue;
            }
        }
        last = Some(reading);
    }
}

/// Reads both clocks. Nothing, if the database does not answer, or answers too late.
async fn read(store: &PgStore) -> Option<Reading> {
    let monotonic = Instant::now();
    let wall_micros = store.clock().await.ok()?;
    (monotonic.elapsed() <= READING_TIME_MAX).then_some(Reading { monotonic, wall_micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The jump between two readings that are `elapsed` apart, with the wall clock moved by
    /// `moved`.
    fn jump(elapsed: Duration, moved: i64) -> Option<i64> {
        let start = Instant::now();
        let earlier = Reading { monotonic: start, wall_micros: 1_000_000_000 };
        let later = Reading { monotonic: start + elapsed, wall_micros: 1_000_000_000 + moved };
        later.jump_since(earlier)
    }

    #[test]
    fn a_clock_that_goes_with_time_has_not_jumped() {
        assert_eq!(jump(Duration::from_millis(500), 500_000), None);
        assert_eq!(jump(Duration::from_hours(9), 9 * 3_600_000_000), None);
    }

    #[test]
    fn slewing_is_no_jump() {
        assert_eq!(jump(Duration::from_secs(1), 2_999_999), None);
        assert_eq!(jump(Duration::from_secs(1), -999_999), None);
    }

    #[test]
    fn a_jump_is_what_the_clock_moved_beyond_the_elapsed_time() {
        assert_eq!(jump(Duration::from_secs(1), 3_601_000_000), Some(3_600_000_000));
        assert_eq!(jump(Duration::from_secs(1), -59_000_000), Some(-60_000_000));
    }

    #[test]
    fn the_smallest_jump_counts() {
        assert_eq!(jump(Duration::ZERO, 2_000_000), Some(2_000_000));
        assert_eq!(jump(Duration::ZERO, -2_000_000), Some(-2_000_000));
    }
}
