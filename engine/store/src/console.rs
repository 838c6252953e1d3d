//! What people look up: lists, one run, the reasons behind an outcome, exports, support counts.

pub(crate) mod export;
pub(crate) mod lists;
pub(crate) mod support;
pub(crate) mod why;
