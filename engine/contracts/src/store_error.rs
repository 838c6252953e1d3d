//! Why the database did not do what it was asked to.

/// Why a function of the store failed. Its transaction was rolled back: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or failed. The same call may succeed later.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another worker has claimed this node or delivery since (fencing).
    #[error("this attempt is no longer the current one")]
    Superseded,
    /// Rows contradict each other, or hold what this program cannot read.
    #[error("the database holds what cannot be: {0}")]
    Inconsistent(String),
}
