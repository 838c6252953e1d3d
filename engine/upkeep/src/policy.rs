//! The rules of a site for its upkeep.

use store::RetentionTerms;

use crate::disk::DiskMarks;

/// The rules that a new site file replaces while the engine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepPolicy {
    /// How long data are retained.
    pub retention: RetentionTerms,
    /// At which usage of the disk the engine reacts.
    pub disk: DiskMarks,
}
