//! The connection pool to the database.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};

use crate::database::wakeups::Wakeups;
use crate::error::{Error, Result, StoreResult};
use crate::vault::keys::Keys;

/// Upper bound of open connections to the database.
const CONNECTIONS_MAX: u32 = 16;

/// Longest wait for a connection. A caller that waits longer gets an error: the database is down.
pub(crate) const CONNECTION_WAIT: Duration = Duration::from_secs(10);

/// A transaction that owns its connection. It is rolled back if it is dropped.
pub(crate) type Tx = Transaction<'static, Postgres>;

/// The engine's PostgreSQL database. The store traits of `contracts` are implemented for it in
/// the folder of each aggregate.
pub struct PgStore {
    pub(crate) pool: PgPool,
    pub(crate) keys: Arc<Keys>,
    pub(crate) wakeups: Arc<Wakeups>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be reached.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// Its schema cannot be brought up to date.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Its functions and rights cannot be installed.
    #[error("cannot install the functions of the database")]
    Install(#[source] sqlx::Error),
}

impl PgStore {
    /// Opens a database that is up to date.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be reached.
    pub async fn open(
        options: PgConnectOptions,
        keys: Arc<Keys>,
    ) -> std::result::Result<Self, OpenError> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECTION_WAIT)
            // Our queries are small: compiling one takes longer than answering it.
            .connect_with(options.options([("jit", "off")]))
            .await
            .map_err(OpenError::Connect)?;
        Ok(Self { pool, keys, wakeups: Arc::default() })
    }

    /// The key with which sealed batches are verified.
    pub fn trail_key(&self) -> VerifyingKey {
        self.keys.trail_public()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    ///
    /// Fails if it does not.
    pub async fn ping(&self) -> StoreResult<()> {
        sqlx::query("select 1").execute(&self.pool).await.map_err(Error::from)?;
        Ok(())
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        Ok(self.pool.begin().await?)
    }
}

/// Commits a transaction.
pub(crate) async fn commit(tx: Tx) -> Result<()> {
    Ok(tx.commit().await?)
}
