//! The vault: the keys of a site and the payloads that are encrypted with them.

pub(crate) mod keys;
pub(crate) mod payload;
#[cfg(test)]
mod tests;
