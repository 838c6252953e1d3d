//! Notifications between processes: hints that there may be work of some kind.
//!
//! A notification is only a hint. The tables are the truth, and every worker polls them as well.

use sqlx::PgConnection;
use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::Notify;

use crate::error::Result;

/// The channel on which changes are announced.
const CHANNEL: &str = "isocenter";

/// What wakes those who wait for work.
#[derive(Default)]
pub(crate) struct Announced {
    pub(crate) assembly: Notify,
    pub(crate) node: Notify,
    pub(crate) delivery: Notify,
    pub(crate) commitment: Notify,
}

pub(crate) async fn pass_on(
    pool: &PgPool,
    announced: &Announced,
) -> std::result::Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        match listener.recv().await?.payload() {
            "assembly" => announced.assembly.notify_one(),
            "node" => announced.node.notify_one(),
            "delivery" => announced.delivery.notify_one(),
            "commitment" => announced.commitment.notify_one(),
            _ => {}
        }
    }
}

/// Tells who waits that there is something to do, once the transaction commits.
pub(crate) async fn announce(connection: &mut PgConnection, kind: &str) -> Result<()> {
    sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(kind).execute(connection).await?;
    Ok(())
}
