//! Who a patient is: identifiers, demographics, merges, links, and the reversal of a merge.

pub(crate) mod encounter;
pub(crate) mod identity;
pub(crate) mod merge;
#[cfg(test)]
mod tests;
pub(crate) mod unmerge;
