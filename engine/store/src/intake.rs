//! What arrives from outside: instances, messages and requests for storage commitment.
//!
//! Instances and messages are written in batches ([`batcher`]). The database function of a batch
//! takes the simple ones; `instance` and `message` decide about all others in a transaction each.
//! Both ways come to the same outcome, which a test compares with random records.

pub(crate) mod association;
pub(crate) mod batcher;
pub(crate) mod commitment;
pub(crate) mod instance;
pub(crate) mod instance_batch;
pub(crate) mod intake_store;
pub(crate) mod message;
pub(crate) mod message_batch;
pub(crate) mod numbering;
pub(crate) mod order;
pub(crate) mod order_link;
#[cfg(test)]
mod tests;
