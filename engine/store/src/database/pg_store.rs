use std::sync::Arc;
use std::time::Duration;

use contracts::{StoreError, WorkKind};
use ed25519_dalek::VerifyingKey;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tracing::warn;

use crate::database::wakeups::{self, Announced};
use crate::error::Error;
use crate::intake::batcher::Groups;
use crate::intake::instance_batch::KeepInstances;
use crate::intake::message::KeepMessages;
use crate::intake::message_batch::KnownPatients;
use crate::patient::identity::IdentityDomains;
use crate::vault::keys::Keys;

/// Most connections to the database at once.
const CONNECTIONS_MAX: u32 = 16;

/// Longest wait for one of them. Who waits longer hears that the database is down.
pub(crate) const CONNECTION_WAIT: Duration = Duration::from_secs(10);

/// The engine's memory, in a PostgreSQL database.
pub struct PgStore {
    pub(crate) pool: PgPool,
    pub(crate) keys: Arc<Keys>,
    pub(crate) instances: Groups<KeepInstances>,
    pub(crate) messages: Groups<KeepMessages>,
    announced: Arc<Announced>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be reached.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// Its tables cannot be brought up to date.
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
        domains: IdentityDomains,
    ) -> Result<Self, OpenError> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECTION_WAIT)
            // What we ask is small: to compile it takes longer than to answer it.
            .connect_with(options.options([("jit", "off")]))
            .await
            .map_err(OpenError::Connect)?;
        let announced = Arc::<Announced>::default();
        let instances = KeepInstances {
            pool: pool.clone(),
            domains: domains.clone(),
            announced: Arc::clone(&announced),
        };
        let messages = KeepMessages {
            pool: pool.clone(),
            keys: Arc::clone(&keys),
            domains,
            known: KnownPatients::default(),
            announced: Arc::clone(&announced),
        };
        let (instances, messages) =
            (Groups::begin(&pool, &instances), Groups::begin(&pool, &messages));
        Ok(Self { pool, keys, instances, messages, announced })
    }

    /// Begins to listen for what other connections announce. Polling goes on beside it: an
    /// announcement is a hint, the tables are the truth.
    pub fn listen(&self) {
        let (pool, announced) = (self.pool.clone(), Arc::clone(&self.announced));
        tokio::spawn(async move {
            loop {
                if let Err(error) = wakeups::pass_on(&pool, &announced).await {
                    warn!(%error, "announcements of the database stopped; polling goes on");
                }
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
    }

    /// The key that what is sealed is verified with.
    pub fn trail_key(&self) -> VerifyingKey {
        self.keys.trail_public()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether the database answers.
    ///
    /// # Errors
    ///
    /// Fails if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.pool).await.map_err(Error::from)?;
        Ok(())
    }

    pub(crate) async fn announced(&self, kind: WorkKind, timeout: Duration) {
        let notify = match kind {
            WorkKind::Assembly => &self.announced.assembly,
            WorkKind::Node => &self.announced.node,
            WorkKind::Delivery => &self.announced.delivery,
            WorkKind::Commitment => &self.announced.commitment,
        };
        // Running out of time is how polling goes on.
        _ = tokio::time::timeout(timeout, notify.notified()).await;
    }
}
