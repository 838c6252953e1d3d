//! What this process works on just now.
//!
//! A lease may run out although its worker lives: the database was away, or a clock jumped. Work
//! that is in flight here must not be claimed a second time, least of all by this process.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// The keys of all work in flight.
#[derive(Debug)]
pub(crate) struct InFlight<K>(Mutex<HashSet<K>>);

impl<K> Default for InFlight<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Marks one key as in flight until it is dropped.
pub(crate) struct InFlightGuard<'a, K: Clone + Eq + Hash> {
    in_flight: &'a InFlight<K>,
    key: K,
}

impl<K: Clone + Eq + Hash> InFlight<K> {
    /// Marks a key as in flight.
    pub(crate) fn begin(&self, key: K) -> InFlightGuard<'_, K> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        InFlightGuard { in_flight: self, key }
    }

    /// All keys in flight, in no order.
    pub(crate) fn keys(&self) -> Vec<K> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether this process works on a key.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

impl<K: Clone + Eq + Hash> Drop for InFlightGuard<'_, K> {
    fn drop(&mut self) {
        self.in_flight.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_in_flight_until_its_guard_is_dropped() {
        let in_flight = InFlight::default();
        let first = in_flight.begin(1);
        let second = in_flight.begin(2);
        drop(first);
        assert!(!in_flight.contains(&1) && in_flight.contains(&2));
        assert_eq!(in_flight.keys(), [2]);
        drop(second);
        assert!(in_flight.keys().is_empty());
    }
}
