//! What this process works on. A lease of it may run out while the database is away, or because a clock
//! jumped: it is nobody's to take up all the same, least of all ours.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// What is being worked on.
#[derive(Debug)]
pub struct InHand<K>(Mutex<HashSet<K>>);

impl<K> Default for InHand<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Something in hand, until this is dropped.
pub(crate) struct Held<'a, K: Clone + Eq + Hash> {
    of: &'a InHand<K>,
    key: K,
}

impl<K: Clone + Eq + Hash> InHand<K> {
    /// Takes something in hand.
    pub(crate) fn take(&self, key: K) -> Held<'_, K> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        Held { of: self, key }
    }

    /// All of it.
    pub(crate) fn all(&self) -> Vec<K> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether something is.
    pub(crate) fn holds(&self, key: &K) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

impl<K: Clone + Eq + Hash> Drop for Held<'_, K> {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
