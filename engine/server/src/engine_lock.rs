//! The lock by which an engine has a data folder to itself, and commands notice that it runs.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::output::Failure;

/// How often a start asks for the lock: a command that looks for an engine holds it for an instant.
const ATTEMPTS: usize = 10;

/// The wait between two attempts.
const ATTEMPT_DELAY: Duration = Duration::from_millis(20);

/// Locks the data folder against a second engine, for as long as the file is open.
pub(crate) async fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| Failure::from_error("cannot open the lock file", &error))?;
    for _ in 0..ATTEMPTS {
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        tokio::time::sleep(ATTEMPT_DELAY).await;
    }
    Err(Failure::new(format!("another engine works with the data in `{}`", data.display())))
}

/// Whether an engine works with a data folder. False if nobody can tell: nothing is there yet.
pub(crate) fn is_locked(data: &Path) -> bool {
    let file = File::open(data.join("lock"));
    file.is_ok_and(|it| matches!(it.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_engine_at_a_time_works_with_a_data_folder() {
        let data = std::env::temp_dir().join(format!("isocenter-lock-{}", uuid::Uuid::now_v7()));
        assert!(!is_locked(&data));
        std::fs::create_dir_all(&data).unwrap();
        let first = lock(&data).await.unwrap();
        assert!(is_locked(&data));
        assert!(lock(&data).await.err().unwrap().text().contains("another engine"));
        drop(first);
        assert!(!is_locked(&data));
        assert!(lock(&data).await.is_ok());
        std::fs::remove_dir_all(data).unwrap();
    }
}
