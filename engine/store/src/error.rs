//! What can go wrong inside an operation of the store.

use contracts::StoreError;

/// Why a statement or an operation failed.
///
/// Functions inside this crate return this; the public ones convert it to [`StoreError`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the database refused a statement")]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of functions inside this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The result of the public operations.
pub(crate) type StoreResult<T> = std::result::Result<T, StoreError>;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Sql(source) => Self::Database(Box::new(source)),
            Error::Store(error) => error,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(source: serde_json::Error) -> Self {
        Self::Store(StoreError::Inconsistent(source.to_string()))
    }
}

/// The error for rows that contradict each other, or the program.
pub(crate) fn inconsistent(what: impl Into<String>) -> Error {
    Error::Store(StoreError::Inconsistent(what.into()))
}
