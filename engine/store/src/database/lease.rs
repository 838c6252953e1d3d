//! How long a worker may hold work without a sign of life.

use std::time::Duration;

/// No lease of a node or delivery is longer. One that ends later was written under a clock that was
/// ahead, and holds nothing back.
pub(crate) const LEASE_MAX: Duration = Duration::from_mins(1);
