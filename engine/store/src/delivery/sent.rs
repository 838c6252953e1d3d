//! The record of what a destination was sent: replacements and withdrawals refer to it.

use contracts::{ClaimedDelivery, Output};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// What a destination was sent, without the bytes.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct SentRecord {
    /// The outputs that were acknowledged last.
    pub(crate) last: Vec<Output>,
    /// All outputs that an attempt may have sent, acknowledged or not.
    pub(crate) tried: Vec<Output>,
}

/// Outputs that are about to be sent, or were acknowledged.
pub(crate) struct SentOutputs<'a> {
    /// The patient whose key encrypts the record.
    pub(crate) patient: Option<Uuid>,
    pub(crate) outputs: &'a [Output],
    /// The version of the result, once the outputs were acknowledged. Before an attempt, nothing.
    pub(crate) acknowledged_version: Option<u32>,
}

/// Adds outputs to the record of a delivery: before an attempt what may arrive, and after it what
/// has.
pub(crate) async fn record_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    delivery: &ClaimedDelivery,
    sent: &SentOutputs<'_>,
) -> Result<()> {
    let mut record = load(tx, keys, delivery).await?;
    let heads: Vec<Output> =
        sent.outputs.iter().map(|it| Output { bytes: Vec::new(), ..it.clone() }).collect();
    for head in &heads {
        if !record.tried.iter().any(|it| it.id == head.id) {
            record.tried.push(head.clone());
        }
    }
    if sent.acknowledged_version.is_some() {
        record.last = heads;
    }
    let content = serde_json::to_vec(&record)?;
    let stored = payload::store(tx, keys, sent.patient, "sent", &content).await?;
    sqlx::query(
        "update delivery set sent = $2, sent_version = coalesce($3, sent_version) where id = $1",
    )
    .bind(delivery.id)
    .bind(stored.id)
    .bind(sent.acknowledged_version.map(|it| i32::try_from(it).unwrap_or(i32::MAX)))
    .execute(tx)
    .await?;
    Ok(())
}

async fn load(
    tx: &mut PgConnection,
    keys: &Keys,
    delivery: &ClaimedDelivery,
) -> Result<SentRecord> {
    let stored: Option<Option<Uuid>> =
        sqlx::query_scalar("select sent from delivery where id = $1")
            .bind(delivery.id)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(Some(stored)) = stored else { return Ok(SentRecord::default()) };
    match payload::read(tx, keys, stored).await? {
        Some(content) => Ok(serde_json::from_slice(&content)?),
        None => Ok(SentRecord::default()),
    }
}
