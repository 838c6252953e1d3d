//! The parts of the engine that DIMSE services hand to.

use std::sync::Arc;

use contracts::{Admission, CommitmentIntake, EventSink, InstanceIntake};

/// What the services may use of the engine, one trait for each aggregate.
///
/// A service takes from here only what it needs. A new aggregate is a new field.
#[derive(Clone)]
pub struct Intakes {
    /// Whether anything is accepted now.
    pub admission: Arc<dyn Admission>,
    /// Where instances are stored.
    pub instances: Arc<dyn InstanceIntake>,
    /// Where requests for storage commitment, and the answers to ours, are stored.
    pub commitments: Arc<dyn CommitmentIntake>,
    /// Where events are written to the trail.
    pub events: Arc<dyn EventSink>,
}

impl Intakes {
    /// The intakes of an implementation that provides all of them.
    pub fn of<T>(all: &Arc<T>) -> Self
    where
        T: InstanceIntake + CommitmentIntake + EventSink + 'static,
    {
        Self {
            admission: Arc::<T>::clone(all),
            instances: Arc::<T>::clone(all),
            commitments: Arc::<T>::clone(all),
            events: Arc::<T>::clone(all),
        }
    }
}
