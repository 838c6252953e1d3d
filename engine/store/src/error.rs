use contracts::StoreError;

/// What can go wrong inside of an operation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the database refused a statement")]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

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

/// What the database holds cannot be.
pub(crate) fn inconsistent(what: impl Into<String>) -> Error {
    Error::Store(StoreError::Inconsistent(what.into()))
}

/// Reads a UID the engine itself wrote.
pub(crate) fn stored<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| inconsistent("a stored UID is not one"))
}
