//! The lock that counts who uses the private database of a data folder: engine and commands hold it
//! together, and the last one that lets go of it stops the database.
//!
//! Of several commands at once, one has started the database and need not be the last to end.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::output::Failure;

/// Name of the lock file in the data folder.
const FILE: &str = "database-users";

/// Longest wait for the last user before, who stops the database.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// The pause between two attempts.
const ATTEMPT_DELAY: Duration = Duration::from_millis(20);

/// A user of the private database, for as long as it exists.
#[derive(Debug)]
pub(crate) struct DatabaseUser {
    file: File,
}

impl DatabaseUser {
    /// Begins to use the database of a data folder. Waits while the last user before stops it.
    pub(crate) async fn begin(data: &Path) -> Result<Self, Failure> {
        let unusable = |error: io::Error| {
            Failure::from_error("cannot lock the database against being stopped", &error)
        };
        let path = data.join(FILE);
        // A lock needs no right to write: the file may be root's.
        let file = File::open(&path)
            .or_else(|_| File::options().create(true).truncate(false).write(true).open(&path));
        let file = file.map_err(unusable)?;
        let begin = Instant::now();
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
                Err(TryLockError::WouldBlock) if begin.elapsed() >= WAIT_MAX => {
                    return Err(Failure::new("another command does not end to stop the database"));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(ATTEMPT_DELAY).await,
            }
        }
    }

    /// Ends the use of the database. True for the last user: nobody begins to use it before this is
    /// dropped.
    pub(crate) fn is_last(&self) -> bool {
        // Whoever asks second finds the lock of the first gone.
        self.file.unlock().is_ok() && self.file.try_lock().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn acc_04_the_last_user_of_the_database_stops_it_and_the_next_one_waits() {
        let data = std::env::temp_dir().join(format!("isocenter-users-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&data).unwrap();
        let first = DatabaseUser::begin(&data).await.unwrap();
        let second = DatabaseUser::begin(&data).await.unwrap();
        assert!(!first.is_last(), "it was the first to start it, and another still uses it");
        drop(first);
        assert!(second.is_last());

        let next = DatabaseUser::begin(&data);
        tokio::pin!(next);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut next).await;
        assert!(early.is_err(), "the database is being stopped");
        drop(second);
        assert!(next.await.unwrap().is_last());
        std::fs::remove_dir_all(&data).unwrap();
    }
}
