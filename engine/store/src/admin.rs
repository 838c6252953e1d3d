//! What administrators decide: which workflows are active, who has access, what is on hold.

pub(crate) mod activation;
pub(crate) mod hold;
pub(crate) mod token;
