//! Instances that wait at the same time are kept together: one transaction, and one flush of the
//! database's log, for all of them. Who waits alone is a group of one.
//!
//! What a group can be kept with few statements is decided by [`plain`]: a new instance of a series that is
//! known and says the same. All else goes its own way (`intake::keep_within`), in the same transaction.

use contracts::{InstanceRecord, Kept, StoreError};
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::IdentityDomains;
use crate::error::Result;
use crate::event::body_of;
use crate::identity;
use crate::intake::{event_of, keep_alone, keep_within};

/// Most instances of one transaction: it holds the rows of their studies until it ends.
const GROUP_MAX: usize = 64;

/// How many may wait to be taken into a group. Who comes then waits for a place.
const WAITING_MAX: usize = 256;

/// An instance, and who waits for it.
struct Waiting {
    record: InstanceRecord,
    answer: oneshot::Sender<std::result::Result<Kept, StoreError>>,
}

/// The way to where groups are made.
pub(crate) struct Groups(mpsc::Sender<Waiting>);

impl Groups {
    /// Begins to make groups, until this is dropped.
    pub(crate) fn begin(pool: PgPool, domains: IdentityDomains) -> Self {
        let (to, mut from) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let mut group = Vec::new();
            // One connection for all groups, as long as it lasts.
            let mut held = None;
            while from.recv_many(&mut group, GROUP_MAX).await > 0 {
                keep_group(&pool, &domains, &mut held, std::mem::take(&mut group)).await;
            }
        });
        Self(to)
    }

    /// Keeps an instance, and says so once it is committed.
    pub(crate) async fn keep(
        &self,
        record: InstanceRecord,
    ) -> std::result::Result<Kept, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ended = || StoreError::Database("the store is being closed".into());
        self.0.send(Waiting { record, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

async fn keep_group(
    pool: &PgPool,
    domains: &IdentityDomains,
    held: &mut Option<PoolConnection<Postgres>>,
    mut group: Vec<Waiting>,
) {
    // Everybody locks studies in the same order.
    group.sort_by(|a, b| key(&a.record).cmp(&key(&b.record)));
    let records: Vec<&InstanceRecord> = group.iter().map(|it| &it.record).collect();
    let was_held = held.is_some();
    let connection = match held.take() {
        Some(connection) => Ok(connection),
        None => pool.acquire().await,
    };
    let tried = match connection {
        Ok(connection) => try_group(connection, domains, &records).await,
        Err(error) => Err(error.into()),
    };
    let kept = match tried {
        Ok((connection, kept)) => {
            *held = Some(connection);
            kept.into_iter().map(Ok).collect()
        }
        Err(error) if group.len() == 1 && !was_held => vec![Err(error.into())],
        // One of them is to blame and the others shall not suffer for it; or the connection had ended.
        Err(_) => one_by_one(pool, domains, &records).await,
    };
    for (waiting, kept) in group.into_iter().zip(kept) {
        // Who is gone has no use for the answer; what it sent is kept.
        _ = waiting.answer.send(kept);
    }
}

fn key(record: &InstanceRecord) -> (&str, &str, &str) {
    (&record.study, &record.series, &record.instance)
}

async fn one_by_one(
    pool: &PgPool,
    domains: &IdentityDomains,
    records: &[&InstanceRecord],
) -> Vec<std::result::Result<Kept, StoreError>> {
    let mut kept = Vec::new();
    for record in records {
        kept.push(keep_alone(pool, domains, record).await.map_err(StoreError::from));
    }
    kept
}

/// Keeps a group, and gives the connection back if it is still good.
async fn try_group(
    mut connection: PoolConnection<Postgres>,
    domains: &IdentityDomains,
    records: &[&InstanceRecord],
) -> Result<(PoolConnection<Postgres>, Vec<Kept>)> {
    let mut tx = connection.begin_with(identity::SHARED).await?;
    let known = known(&mut tx, domains, records).await?;
    let mut kept = vec![Kept::New; records.len()];
    let mut together = Vec::new();
    for (at, (record, known)) in records.iter().zip(&known).enumerate() {
        let twin = |it: &&&InstanceRecord| it.instance == record.instance;
        let is_only = records.iter().filter(twin).count() == 1;
        match plain(record, known).filter(|_| is_only) {
            Some(patient) => together.push((*record, patient)),
            None => kept[at] = keep_within(&mut tx, domains, record).await?,
        }
    }
    if !together.is_empty() {
        keep_plain(&mut tx, &together).await?;
    }
    tx.commit().await?;
    Ok((connection, kept))
}

/// What is known of an instance before it is kept.
#[derive(sqlx::FromRow)]
struct Known {
    /// Whether its study is known; then it is locked.
    has_study: bool,
    /// The patient of its study, as of now.
    study_patient: Option<Uuid>,
    /// The study of its series, if that is known.
    study: Option<String>,
    modality: Option<String>,
    frame_of_reference: Option<String>,
    /// The patient its identifier names, as of now.
    patient: Option<Uuid>,
    has_versions: bool,
}

/// Locks the studies that are known, and reads what there is. If somebody adds a series or a version of an
/// instance while a study is waited for, it is not seen here: what was taken for plain is refused by the
/// database's keys then, and goes its own way after all.
async fn known(
    tx: &mut PgConnection,
    domains: &IdentityDomains,
    records: &[&InstanceRecord],
) -> Result<Vec<Known>> {
    let column = |of: fn(&InstanceRecord) -> &str| -> Vec<&str> {
        records.iter().map(|it| of(it)).collect()
    };
    let names = records.iter().map(|it| it.patient.as_ref().map(|it| domains.key(it)));
    let (values, issuers): (Vec<Option<String>>, Vec<Option<String>>) =
        names.map(Option::unzip).unzip();
    let rows = sqlx::query_as(
        "with locked as materialized (
            select uid, patient from study where uid = any($1) order by uid for update)
         select l.uid is not null as has_study, patient_root(l.patient) as study_patient,
            s.study, s.modality, s.frame_of_reference, patient_root(p.patient) as patient,
            exists (select from instance i where i.uid = a.instance) as has_versions
         from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
            with ordinality a (study, series, instance, value, issuer, place)
         left join locked l on l.uid = a.study
         left join series s on s.uid = a.series
         left join patient_identifier p on p.value = a.value and p.issuer = a.issuer
         order by a.place",
    )
    .bind(column(|it| &it.study))
    .bind(column(|it| &it.series))
    .bind(column(|it| &it.instance))
    .bind(&values)
    .bind(&issuers)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}

/// The patient of an instance of which there is nothing more to find out: it is new, its series is
/// known, and it contradicts neither that nor its study (DIN-61). Pure.
fn plain(record: &InstanceRecord, known: &Known) -> Option<Option<Uuid>> {
    let frame = known.frame_of_reference.as_deref();
    let is_plain = !known.has_versions
        && known.has_study
        && known.study_patient == known.patient
        && record.patient.is_some() == known.patient.is_some()
        && known.study.as_deref() == Some(&record.study)
        && known.modality.as_deref() == Some(&record.modality)
        && (record.frame_of_reference.is_empty() || frame == Some(&record.frame_of_reference))
        // What others made of ours is compared with what we made.
        && !matches!(record.modality.as_str(), "SEG" | "SR");
    is_plain.then_some(known.patient)
}

/// Keeps instances of which [`plain`] says that they may be kept together.
async fn keep_plain(
    tx: &mut PgConnection,
    together: &[(&InstanceRecord, Option<Uuid>)],
) -> Result<()> {
    let column = |of: fn(&InstanceRecord) -> &str| -> Vec<&str> {
        together.iter().map(|it| of(it.0)).collect()
    };
    let flags: Vec<serde_json::Value> =
        together.iter().map(|it| it.0.quality_flags.clone().into()).collect();
    let bytes: Vec<i64> =
        together.iter().map(|it| i64::try_from(it.0.bytes).unwrap_or(i64::MAX)).collect();
    let own: Vec<bool> = together.iter().map(|it| it.0.is_own).collect();
    let associations: Vec<Uuid> = together.iter().map(|it| it.0.arrival.association).collect();
    let events = together.iter().map(|(record, patient)| event_of(record, *patient, Kept::New));
    let bodies = events.map(|it| body_of(&it)).collect::<Result<Vec<_>>>()?;
    let events: Vec<Uuid> = bodies.iter().map(|_| Uuid::now_v7()).collect();
    // Nobody is told: when its study is looked at next stands in its row, and is not yet.
    sqlx::query(
        "with a as (select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                $6::text[], $7::bigint[], $8::text[], $9::jsonb[], $10::bool[], $11::uuid[])
                it (uid, sha256, series, study, sop_class, transfer_syntax, bytes, calling_ae, flags,
                    is_own, association)),
            added as (insert into instance (uid, sha256, series, study, sop_class, transfer_syntax,
                    bytes, calling_ae, is_current, flags, is_own)
                select uid, sha256, series, study, sop_class, transfer_syntax, bytes, calling_ae,
                    true, array(select jsonb_array_elements_text(flags)), is_own from a),
            heard as (insert into study_association (study, association)
                select distinct study, association from a on conflict do nothing),
            woken as (update study set last_received = clock_timestamp(),
                    look_at = coalesce(look_at, clock_timestamp() + interval '200 milliseconds')
                where uid in (select study from a))
         select audit.append(id, body) from unnest($12::uuid[], $13::jsonb[]) it (id, body)",
    )
    .bind(column(|it| &it.instance))
    .bind(column(|it| &it.sha256))
    .bind(column(|it| &it.series))
    .bind(column(|it| &it.study))
    .bind(column(|it| it.sop_class.as_str()))
    .bind(column(|it| &it.arrival.transfer_syntax))
    .bind(&bytes)
    .bind(column(|it| &it.arrival.calling_ae))
    .bind(&flags)
    .bind(&own)
    .bind(&associations)
    .bind(&events)
    .bind(&bodies)
    .execute(&mut *tx)
    .await?;
    Ok(())
}
