//! Waiting for work: the store listens for notifications of other connections.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contracts::{Notifications, WorkKind};
use tracing::warn;

use crate::database::pg_store::PgStore;

/// Wait before the engine listens again after the connection was lost.
const RECONNECT_WAIT: Duration = Duration::from_secs(5);

impl PgStore {
    /// Starts to listen for notifications of other connections, until the process ends.
    pub fn listen(&self) {
        let pool = self.pool.clone();
        let wakeups = Arc::clone(&self.wakeups);
        tokio::spawn(async move {
            loop {
                if let Err(error) = wakeups.forward(&pool).await {
                    warn!(%error, "notifications of the database stopped; polling goes on");
                }
                tokio::time::sleep(RECONNECT_WAIT).await;
            }
        });
    }
}

#[async_trait]
impl Notifications for PgStore {
    async fn wait_for(&self, kind: WorkKind, timeout: Duration) {
        // A timeout is not a failure: that is how polling goes on.
        _ = tokio::time::timeout(timeout, self.wakeups.signal(kind).notified()).await;
    }
}
