//! What administrators decide: which workflows are active, who has access, what is on hold.

pub(crate) mod activation;
pub(crate) mod hold;
#[cfg(test)]
mod tests;
pub(crate) mod token;
