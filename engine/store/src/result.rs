//! Results in the hands of people: review and corrections that come back.

pub(crate) mod corrections;
pub(crate) mod review;
