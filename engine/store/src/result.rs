//! Results in the hands of people: review, and corrections that come back from outside.

pub(crate) mod corrections;
pub(crate) mod pair;
pub(crate) mod review;
#[cfg(test)]
mod tests;
