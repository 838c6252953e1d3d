//! How much of what callers send is in memory at once: a budget for all bodies together (SEC-38).
//!
//! A call is charged before its body is read, by the length it declares, or by the longest body of
//! its route if it declares none. A body that is too long, or for which there is no memory now, is
//! refused without being read.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;

/// What is charged at least, and the unit of all charges, in bytes.
const UNIT_BYTES: usize = 64 << 10;

/// How often a body is in memory while it arrives: in pieces, and in one.
const COPIES: usize = 2;

/// The longest mask unless the site sets another: one bit for each voxel of the largest volume.
const MASK_BYTES_MAX: usize = 512 << 20;

/// The memory for all bodies unless the site sets another: one of the longest masks.
const MEMORY_BYTES_MAX: usize = 1 << 30;

/// The least memory that a site may set: the longest result and the longest document.
const MEMORY_BYTES_MIN: usize = 128 << 20;

/// `http:` of the site file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// Interface and port.
    pub(crate) listen: SocketAddr,
    /// The longest mask that is accepted, in bytes.
    #[serde(default = "default_mask_bytes_max")]
    mask_bytes_max: usize,
    /// The memory for all bodies that arrive at the same time, in bytes.
    #[serde(default = "default_memory_bytes_max")]
    memory_bytes_max: usize,
}

const fn default_mask_bytes_max() -> usize {
    MASK_BYTES_MAX
}

const fn default_memory_bytes_max() -> usize {
    MEMORY_BYTES_MAX
}

impl HttpConfig {
    /// What callers may send.
    pub(crate) const fn bodies(&self) -> BodyLimits {
        BodyLimits { mask_bytes_max: self.mask_bytes_max, memory_bytes_max: self.memory_bytes_max }
    }

    /// A value outside its range, in words for the person who wrote the site file.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.memory_bytes_max < MEMORY_BYTES_MIN {
            return Some(format!("http.memory_bytes_max: at least {MEMORY_BYTES_MIN}"));
        }
        (self.mask_bytes_max > self.memory_bytes_max / COPIES)
            .then(|| format!("http.mask_bytes_max: at most 1/{COPIES} of http.memory_bytes_max"))
    }
}

/// What callers may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    mask_bytes_max: usize,
    memory_bytes_max: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { mask_bytes_max: MASK_BYTES_MAX, memory_bytes_max: MEMORY_BYTES_MAX }
    }
}

/// The memory that is left for bodies.
pub(super) struct BodyBudget {
    limits: BodyLimits,
    units: Arc<Semaphore>,
}

/// The budget, as the calls of one route are charged.
#[derive(Clone)]
pub(super) struct RouteBudget {
    units: Arc<Semaphore>,
    bytes_max: usize,
}

impl BodyBudget {
    pub(super) fn new(limits: BodyLimits) -> Self {
        let units = (limits.memory_bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { limits, units: Arc::new(Semaphore::new(units)) }
    }

    /// The longest mask, in bytes.
    pub(super) const fn mask_bytes_max(&self) -> usize {
        self.limits.mask_bytes_max
    }

    /// The budget for a route whose bodies have at most `bytes_max` bytes.
    pub(super) fn of_route(&self, bytes_max: usize) -> RouteBudget {
        RouteBudget { units: Arc::clone(&self.units), bytes_max }
    }
}

impl RouteBudget {
    /// The memory for a body of this length, or of the longest if none is declared.
    fn acquire(&self, declared: Option<u64>) -> Result<SemaphorePermit<'_>, Problem> {
        let bytes_max = self.bytes_max;
        let bytes = declared.map_or(bytes_max, |it| usize::try_from(it).unwrap_or(usize::MAX));
        if bytes > bytes_max {
            return Err(Problem::TooLong { bytes_max });
        }
        let units = u32::try_from(bytes.saturating_mul(COPIES).div_ceil(UNIT_BYTES));
        let permit = self.units.try_acquire_many(units.unwrap_or(u32::MAX));
        permit.map_err(|_| Problem::Unavailable)
    }
}

/// Charges a call for its body until it is answered.
pub(super) async fn charge(
    State(budget): State<RouteBudget>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let _permit = budget.acquire(request.body().size_hint().upper())?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<String> {
        let config: HttpConfig = serde_saphyr::from_str(text).unwrap();
        config.problem()
    }

    #[test]
    fn sec_38_the_longest_mask_fits_into_the_memory_for_bodies() {
        assert_eq!(problem("listen: 127.0.0.1:0"), None);
        let long = problem("{ listen: 127.0.0.1:0, mask_bytes_max: 600000000 }").unwrap();
        assert!(long.contains("http.mask_bytes_max"), "{long}");
        let small = problem("{ listen: 127.0.0.1:0, memory_bytes_max: 1000 }").unwrap();
        assert!(small.contains("http.memory_bytes_max"), "{small}");
    }

    #[test]
    fn sec_38_bodies_beyond_the_budget_are_refused_before_they_are_read() {
        let limits = BodyLimits { mask_bytes_max: 0, memory_bytes_max: 512 << 10 };
        let budget = BodyBudget::new(limits).of_route(256 << 10);
        let too_long = budget.acquire(Some(257 << 10));
        assert!(matches!(too_long, Err(Problem::TooLong { bytes_max: 262_144 })));

        // One that declares no length is charged for the longest, and there is no room beside it.
        let longest = budget.acquire(None).unwrap();
        assert!(matches!(budget.acquire(Some(1)), Err(Problem::Unavailable)));
        // A call without a body needs none.
        assert!(budget.acquire(Some(0)).is_ok());
        drop(longest);
        assert!(budget.acquire(Some(256 << 10)).is_ok());
    }

    /// Every route has one budget: 32 masks of the longest kind are never in memory together.
    #[test]
    fn sec_38_masks_and_documents_share_their_memory() {
        let budget = BodyBudget::new(BodyLimits::default());
        let masks = budget.of_route(budget.mask_bytes_max());
        let mask = masks.acquire(None).unwrap();
        assert!(matches!(
            budget.of_route(32 << 20).acquire(Some(1 << 20)),
            Err(Problem::Unavailable)
        ));
        drop(mask);
        assert!(budget.of_route(32 << 20).acquire(Some(1 << 20)).is_ok());
    }
}
