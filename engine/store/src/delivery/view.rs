//! What a delivery is made of: everything that composing it reads.

use contracts::{ClaimedDelivery, DeliveryView, RunRecord, SentBefore};
use domain::{ReviewState, Subject};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::decode;
use crate::delivery::sent::SentRecord;
use crate::error::Result;
use crate::patient::identity;
use crate::result::review;
use crate::run::{chain, record, separation, snapshot};
use crate::vault::keys::Keys;
use crate::vault::payload;

/// The view of a delivery. Its revision is zero until it is composed.
pub(crate) async fn of(
    tx: &mut PgConnection,
    keys: &Keys,
    delivery: &ClaimedDelivery,
) -> Result<DeliveryView> {
    let id = delivery.run;
    let run = record::load(tx, id).await?;
    let patient = match run.patient {
        Some(root) => Some(identity::view(tx, root).await?),
        None => None,
    };
    let study = run.study.as_ref().map(domain::StudyInstanceUid::as_str);
    let accession: Option<String> =
        sqlx::query_scalar("select accession from study where uid = $1")
            .bind(study)
            .fetch_optional(&mut *tx)
            .await?;
    let message = match run.message {
        Some(message) => Some(snapshot::message(tx, keys, message).await?),
        None => None,
    };
    let (concluded, has_failures): (i64, bool) = sqlx::query_as(
        "select micros(coalesce(max(n.changed_at), max(r.started_at))),
            coalesce(bool_or(n.state = 'failed'), false)
         from run r left join node n on n.run = r.id where r.id = $1",
    )
    .bind(id)
    .fetch_one(&mut *tx)
    .await?;
    Ok(DeliveryView {
        concluded: decode::timestamp(concluded)?,
        series: snapshot::run_series(tx, id).await?,
        outputs: snapshot::outputs(tx, keys, id).await?,
        plugins: snapshot::plugins(tx, id).await?,
        has_failures,
        patient,
        orders: snapshot::orders(tx, study).await?,
        accession: accession.unwrap_or_default(),
        message,
        reviewed: review::version_in_force(tx, keys, id).await?,
        standing: chain::standing(tx, id).await?,
        is_replaced: chain::is_replaced(tx, id).await?,
        revision: 0,
        before: sent_before(tx, keys, delivery).await?,
        is_superseded: is_superseded(tx, &run).await?,
        is_mixed: separation::is_mixed(tx, run.message).await?,
        run,
    })
}

/// Whether another run replaces this one, or another message holds in place of its own.
async fn is_superseded(tx: &mut PgConnection, run: &RunRecord) -> Result<bool> {
    let is_superseded = sqlx::query_scalar(
        "select exists (select from run where amends is not null and amends ->> 'run' = $1::text
                and (amends ->> 'is_replaced')::boolean)
            or exists (select from message where id = $2 and superseded_by is not null)",
    )
    .bind(run.id)
    .bind(run.message)
    .fetch_one(tx)
    .await?;
    Ok(is_superseded)
}

/// The event subject of a delivery.
pub(crate) async fn subject(tx: &mut PgConnection, delivery: &ClaimedDelivery) -> Result<Subject> {
    let run = record::load(tx, delivery.run).await?;
    Ok(Subject { destination: Some(delivery.destination.clone()), ..record::subject(&run) })
}

#[derive(sqlx::FromRow)]
struct SentRow {
    sent: Uuid,
    /// The state of the version that was acknowledged; none of a draft.
    state: Option<String>,
    is_own: bool,
}

/// What the destination has of this run, or of the nearest of those that it replaces or adds to.
async fn sent_before(
    tx: &mut PgConnection,
    keys: &Keys,
    delivery: &ClaimedDelivery,
) -> Result<Option<SentBefore>> {
    let rows: Vec<SentRow> = sqlx::query_as(
        "with recursive chain (run, depth) as (
            select $2::uuid, 0
            union all
            select (r.amends ->> 'run')::uuid, c.depth + 1
                from chain c join run r on r.id = c.run where r.amends is not null)
         select d.sent, v.state, d.id = $1 as is_own
         from chain c join delivery d on d.run = c.run
            left join run_version v on v.run = d.run and v.version = d.sent_version
         where d.sent is not null and (d.id = $1 or c.depth > 0 and d.destination = $3)
         order by c.depth, d.index = $4 desc, d.position desc",
    )
    .bind(delivery.id)
    .bind(delivery.run)
    .bind(&delivery.destination)
    .bind(i32::try_from(delivery.index).unwrap_or_default())
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        // Once retention has removed the record, nothing is known of what was sent.
        let Some(content) = payload::read(tx, keys, row.sent).await? else { continue };
        let SentRecord { last, tried } = serde_json::from_slice(&content)?;
        if !last.is_empty() || row.is_own && !tried.is_empty() {
            let state = row.state.map(|it| decode::named(&it, ReviewState::parse)).transpose()?;
            return Ok(Some(SentBefore { state, is_own: row.is_own, outputs: last, tried }));
        }
    }
    Ok(None)
}
