//! Notifications between processes: hints that there may be work of some kind.
//!
//! A notification is only a hint. The tables are the truth, and every worker polls them as well.

use contracts::WorkKind;
use sqlx::PgConnection;
use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::Notify;

use crate::error::Result;

/// The channel of PostgreSQL on which work is announced. Functions of the database notify it too.
const CHANNEL: &str = "isocenter";

/// Wakes the workers of this process, one signal for each kind of work.
#[derive(Default)]
pub(crate) struct Wakeups {
    assembly: Notify,
    node: Notify,
    delivery: Notify,
    commitment: Notify,
}

impl Wakeups {
    /// The signal of one kind of work.
    pub(crate) const fn signal(&self, kind: WorkKind) -> &Notify {
        match kind {
            WorkKind::Assembly => &self.assembly,
            WorkKind::Node => &self.node,
            WorkKind::Delivery => &self.delivery,
            WorkKind::Commitment => &self.commitment,
        }
    }

    /// Wakes one worker of this kind, now or when it next waits.
    pub(crate) fn wake(&self, kind: WorkKind) {
        self.signal(kind).notify_one();
    }

    /// Passes on what other connections notify, until the connection is lost. Names that are not
    /// ours are ignored: an engine of another version may be connected.
    pub(crate) async fn forward(&self, pool: &PgPool) -> std::result::Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        loop {
            if let Some(kind) = WorkKind::parse(listener.recv().await?.payload()) {
                self.wake(kind);
            }
        }
    }
}

/// Notifies all processes that there may be work of this kind, once the transaction commits.
pub(crate) async fn notify(connection: &mut PgConnection, kind: WorkKind) -> Result<()> {
    sqlx::query("select pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(kind.name())
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_work_have_distinct_names_that_parse() {
        for &kind in WorkKind::ALL {
            assert_eq!(WorkKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(WorkKind::parse("something newer"), None);
    }
}
