//! Composes reports with the patient's identity of that moment, and sends them until they are
//! acknowledged.
//!
//! - [`worker`] claims deliveries, sends what was composed, and decides whether to try again.
//! - [`composer`] gathers what a report needs and composes it in the transaction that records it.
//! - [`content`] turns rows into the result set, patient and study that `report` encodes. Pure.
//! - [`row_sources`] finds the observations that laboratory rows were made of. Pure.

mod composer;
mod content;
mod row_sources;
mod worker;

pub(crate) use composer::Composer;
pub(crate) use worker::DeliveryWorker;
