//! Labelled pairs: a draft and the result that a person made of it, to learn from.

use domain::{CorrectionSource, NodeOutput};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// A draft and its correction.
pub(crate) struct LabelledPair<'a> {
    pub(crate) run: Uuid,
    /// The patient whose key encrypts the draft.
    pub(crate) patient: Option<Uuid>,
    pub(crate) source: CorrectionSource,
    /// The version of the run, or the instance or message that arrived.
    pub(crate) origin: &'a str,
    pub(crate) draft: &'a NodeOutput,
    /// The payload of the correction.
    pub(crate) content: Uuid,
    /// The payload of the difference between the two.
    pub(crate) difference: Uuid,
}

/// Stores a pair. A pair of the same origin is not stored twice.
pub(crate) async fn store_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    pair: &LabelledPair<'_>,
) -> Result<()> {
    let draft = serde_json::to_vec(pair.draft)?;
    let draft = payload::store(tx, keys, pair.patient, "draft", &draft).await?;
    sqlx::query(
        "insert into labelled_pair (id, run, source, origin, draft, final, difference)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(pair.run)
    .bind(pair.source.name())
    .bind(pair.origin)
    .bind(draft.id)
    .bind(pair.content)
    .bind(pair.difference)
    .execute(tx)
    .await?;
    Ok(())
}
