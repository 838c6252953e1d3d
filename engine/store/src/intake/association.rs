//! Associations: which ones still bring instances of a study.
//!
//! A study may be complete once every association that brought instances of it has ended.

use contracts::WorkKind;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Result, StoreResult};

/// Records the end of an association, and has its studies decided on. `None` stands for all that
/// are open.
pub(crate) async fn end(store: &PgStore, association: Option<Uuid>) -> Result<()> {
    let mut tx = store.begin().await?;
    // Locks a study before its associations, as the intake and `clock::SHIFTS` do.
    sqlx::query(
        "select from study where uid in (select study from study_association
            where ended_at is null and association = coalesce($1, association))
         order by uid for no key update",
    )
    .bind(association)
    .execute(&mut *tx)
    .await?;
    let studies: Vec<String> = sqlx::query_scalar(
        "update study_association set ended_at = clock_timestamp()
         where ended_at is null and association = coalesce($1, association) returning study",
    )
    .bind(association)
    .fetch_all(&mut *tx)
    .await?;
    if !studies.is_empty() {
        sqlx::query("update study set decide_at = clock_timestamp() where uid = any($1)")
            .bind(&studies)
            .execute(&mut *tx)
            .await?;
        notify(&mut tx, WorkKind::Assembly).await?;
    }
    commit(tx).await
}

impl PgStore {
    /// Ends all associations that the database has as open: at a start of the engine, none of them
    /// can still be there.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn end_open_associations(&self) -> StoreResult<()> {
        Ok(end(self, None).await?)
    }
}
