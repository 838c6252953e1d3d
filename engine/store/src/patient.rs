//! Who a patient is: identifiers, demographics, merges, links, and undoing a merge.

pub(crate) mod identity;
pub(crate) mod merge;
