//! Restarts parts of the engine that panic, so that a fault of the program in one part does not
//! end that part until a person notices.
//!
//! Every part that runs for as long as the engine does (a worker, the sealer, the monitor of the
//! private database) is a future handed to [`supervise`]. A panic is logged and counted, and the
//! part starts again after [`RESTART_DELAY`]. Nothing else is restored: a part holds no state
//! that the database does not hold too.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tracing::error;

/// How long to wait before a part that panicked starts again.
pub const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Runs `work` to its end, and runs it again whenever it panics.
///
/// `part` names the work in the log and in the metric `supervisor_panics_total`.
pub async fn supervise<F: Future<Output = ()>>(part: &'static str, work: impl Fn() -> F) {
    while let Err(panic) = AssertUnwindSafe(work()).catch_unwind().await {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let reason = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        metrics::counter!("supervisor_panics_total", "part" => part).increment(1);
        error!(part, reason, "a part of the engine panicked and is restarted");
        tokio::time::sleep(RESTART_DELAY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_is_restarted() {
        let starts = AtomicU32::new(0);
        supervise("a test", || async {
            assert!(starts.fetch_add(1, Ordering::Relaxed) >= 1, "not yet");
        })
        .await;
        assert_eq!(starts.load(Ordering::Relaxed), 2);
    }
}
