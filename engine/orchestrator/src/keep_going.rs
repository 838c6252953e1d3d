//! Work that never ends goes on after a fault of ours: the engine does not lose a part of itself, and nobody
//! has to notice that it did.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tracing::error;

use crate::orchestrator::AFTER_FAILURE;

/// Does `work`, and begins it again if it panics.
pub async fn keep_going<F: Future<Output = ()>>(what: &'static str, work: impl Fn() -> F) {
    while let Err(panic) = AssertUnwindSafe(work()).catch_unwind().await {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let reason = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        metrics::counter!("orchestrator_panics_total", "part" => what).increment(1);
        error!(part = what, reason, "a part of the engine failed, and is begun again");
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_panics_is_begun_again() {
        let times = AtomicU32::new(0);
        keep_going("a test", || async {
            assert!(times.fetch_add(1, Ordering::Relaxed) >= 1, "not yet");
        })
        .await;
        assert_eq!(times.load(Ordering::Relaxed), 2);
    }
}
