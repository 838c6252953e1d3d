//! What arrives from outside: instances, messages and requests for storage commitment.

pub(crate) mod batcher;
pub(crate) mod commitment;
pub(crate) mod instance;
pub(crate) mod instance_batch;
pub(crate) mod message;
pub(crate) mod message_batch;
