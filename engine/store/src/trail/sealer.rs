//! The sealer: gives events their place in the chain, and signs them in batches (AUD-01..03).
//!
//! # The order of sealing
//!
//! A sealed event can never be followed by an event that belongs before it. So the sealer needs an
//! order in which no event appears late. Neither the time nor the sequence number of an event is
//! such an order, because both are taken before the transaction commits:
//!
//! ```text
//!  time   transaction 7 (xid 700)          transaction 8 (xid 701)        sealer
//!   t0    begins, appends event A
//!         (position 41)
//!   t1                                     begins, appends event B
//!                                          (position 42), commits
//!   t2                                                                    sees B, not A
//!   t3    commits
//!   t4                                                                    sees A and B
//! ```
//!
//! A sealer that ordered by position and sealed B at t2 would have to put A, position 41, after it.
//! Instead, events are sealed in the order of (xid, position), and only those whose `xid` is below
//! `pg_snapshot_xmin(pg_current_snapshot())`: the lowest transaction that was still running when
//! the snapshot was taken. Every transaction below it has ended, so no event of theirs can appear
//! any more. At t2 the xmin is 700, and neither event is sealed; at t4 it is above 701, and A is
//! sealed before B. The head of the chain stores the last (xid, position), and the next batch goes
//! on after it.
//!
//! The price: a transaction that stays open holds back the sealing of everything after it. The
//! sealer warns when events wait for long ([`UNSEALED_SECONDS_MAX`]).
//!
//! # A batch
//!
//! Each event is hashed with the hash before it; the hashes of a batch form a Merkle tree, and its
//! root is signed. The signed batch is written to a file outside of the database, and counted in
//! another, *before* it is committed (`count.rs`). A batch that only the files know is sealed as it
//! was signed, with the same events: if they are gone, the trail was cut. No number of a batch is
//! ever used for other events.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::StoreError;
use domain::event::TrailCountBegun;
use domain::{Event, Subject, TrailFault};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use tracing::warn;
use uuid::Uuid;

use crate::database::decode;
use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, Result, StoreResult, inconsistent};
use crate::trail::append::append_with_id;
use crate::trail::count::{Checkpoint, Mark, Recorded, Standing, TrailCount, TrailFiles};
use crate::trail::fault::unfit;
use crate::trail::file;
use crate::trail::file::{End, GENESIS, Hash, SealedEvent, chain_hash, merkle_root};
use crate::trail::refusal::{Attempt, Refusals};
use crate::trail::signed::{SealedBatch, signed_bytes};

/// Upper bound of the events in a batch, and so of what one transaction of the sealer reads.
const BATCH_EVENTS_MAX: i64 = 1_000;

/// How often the trail is sealed.
const PERIOD: Duration = Duration::from_secs(1);

/// How often [`Sealer::seal_all`] checks whether another engine has sealed.
const SEAL_CHECK_PERIOD: Duration = Duration::from_millis(100);

/// An event that waits longer for its seal is worth a warning: a transaction hangs.
const UNSEALED_SECONDS_MAX: f64 = 30.0;

/// One sealer works per cluster: the one that holds this advisory lock.
const SEALER_LOCK: i64 = 0x1D_0002;

/// Seals events into signed batches.
pub struct Sealer {
    pub(super) store: Arc<PgStore>,
    pub(super) files: TrailFiles,
}

/// The head of the chain: the last batch and the last event that are sealed.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) batch: u64,
    pub(super) seq: u64,
    hash: Hash,
    last: Place,
}

/// The database, compared with the files.
pub(super) struct Compared {
    pub(super) head: Head,
    /// The count as it was read.
    count: Option<TrailCount>,
    /// What follows, or why nothing can be sealed.
    pub(super) next: std::result::Result<Next, TrailFault>,
}

/// The batch that comes next.
pub(super) enum Next {
    /// What waits, under the numbers after those of this head.
    New(Head),
    /// One that was signed and not committed.
    Signed(NewBatch),
}

/// The place of an event in the order of sealing.
#[derive(Clone)]
struct Place {
    /// The transaction that appended it, as text: sqlx has no type for `xid8`.
    xid: String,
    /// Its number in the table.
    position: i64,
}

/// A batch that is not yet stored.
pub(super) struct NewBatch {
    batch: SealedBatch,
    events: Vec<SealedEvent>,
    last: Place,
}

impl Sealer {
    /// A sealer that exports and counts its batches in `files`.
    pub fn new(store: Arc<PgStore>, files: TrailFiles) -> Self {
        Self { store, files }
    }

    /// Seals until the future is dropped.
    pub async fn run(&self) {
        let mut refusals = Refusals::default();
        loop {
            let attempt = self.attempt().await;
            refusals.tell(&self.store, &attempt).await;
            if !matches!(attempt, Ok(Attempt::Sealed)) {
                tokio::time::sleep(PERIOD).await;
            }
        }
    }

    /// Seals one batch. False if there was nothing to seal.
    ///
    /// # Errors
    ///
    /// Fails if the database or the file for the batches does. Nothing is lost: the next call
    /// tries again.
    pub async fn seal(&self) -> StoreResult<bool> {
        match self.attempt().await? {
            Attempt::Sealed => Ok(true),
            Attempt::Nothing | Attempt::OfAnother => Ok(false),
            Attempt::Refused(fault) => Err(unfit(fault).into()),
        }
    }

    /// Seals one batch, if there is anything to seal and the trail fits.
    pub(super) async fn attempt(&self) -> StoreResult<Attempt> {
        let mut tx = self.store.begin().await?;
        let is_ours: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
            .bind(SEALER_LOCK)
            .fetch_one(&mut *tx)
            .await
            .map_err(Error::from)?;
        if !is_ours {
            return Ok(Attempt::OfAnother);
        }
        let compared = self.compare(&mut tx).await?;
        let next = match compared.next {
            Ok(next) => next,
            Err(fault) => return Ok(Attempt::Refused(fault)),
        };
        match next {
            Next::Signed(new) => {
                write_batch(&mut tx, &new).await?;
                self.count(&mut tx, &new.batch, compared.count).await?;
            }
            Next::New(head) => {
                let Some(mut new) = next_batch(&mut tx, &head, BATCH_EVENTS_MAX).await? else {
                    return Ok(Attempt::Nothing);
                };
                new.batch.signature = self.signature(&new.batch)?;
                write_batch(&mut tx, &new).await?;
                // Before the commit: see the head of this file.
                self.files.add(&Checkpoint::Batch(new.batch.clone())).map_err(file_error)?;
                self.count(&mut tx, &new.batch, compared.count).await?;
            }
        }
        commit(tx).await?;
        Ok(Attempt::Sealed)
    }

    /// How the trail does not fit what was signed and counted outside of the database, if so.
    ///
    /// # Errors
    ///
    /// Fails if the database or a file cannot be read.
    pub async fn fault(&self) -> StoreResult<Option<TrailFault>> {
        let mut tx = self.store.begin().await?;
        lock(&mut tx).await?;
        Ok(self.compare(&mut tx).await?.next.err())
    }

    /// Seals until everything that is in the trail now is sealed, by us or by a running engine.
    /// False if that takes longer than `at_most`: an open transaction holds back what came after
    /// it.
    ///
    /// # Errors
    ///
    /// Fails if the database or the file for the batches does.
    pub async fn seal_all(&self, at_most: Duration) -> StoreResult<bool> {
        let begin = Instant::now();
        let mut connection = self.store.pool.acquire().await.map_err(Error::from)?;
        let mark = "select coalesce(max(position), 0) from audit.event";
        let mark: i64 =
            sqlx::query_scalar(mark).fetch_one(&mut *connection).await.map_err(Error::from)?;
        loop {
            let is_sealed = self.seal().await?;
            let head = head(&mut connection).await?;
            let is_open: bool = sqlx::query_scalar(
                "select exists(select from audit.event e where e.position <= $1
                    and (e.xid, e.position) > ($2::text::xid8, $3))",
            )
            .bind(mark)
            .bind(&head.last.xid)
            .bind(head.last.position)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::from)?;
            if !is_open || begin.elapsed() > at_most {
                return Ok(!is_open);
            }
            if !is_sealed {
                tokio::time::sleep(SEAL_CHECK_PERIOD).await;
            }
        }
    }

    /// Compares the database with the files (AUD-03). The caller holds the lock of the sealer.
    pub(super) async fn compare(&self, tx: &mut PgConnection) -> Result<Compared> {
        let head = head(tx).await?;
        let recorded = match self.files.read(&self.store.trail_key()).map_err(file_error)? {
            Ok(recorded) => recorded,
            Err(fault) => return Ok(Compared { head, count: None, next: Err(fault) }),
        };
        // The trail is searched only where there is no count.
        let is_begun = recorded.count.is_none() && is_count_begun(tx).await?;
        let standing = recorded.compared(&head.mark(), is_begun);
        let Recorded { count, .. } = recorded;
        let next = match standing {
            Err(fault) => Err(fault),
            Ok(Standing::Fits { batches, events }) => {
                Ok(Next::New(Head { batch: batches, seq: events, ..head.clone() }))
            }
            Ok(Standing::Signed(batch)) => {
                let made_again = made_again(tx, &head, batch).await?;
                made_again.map(Next::Signed).ok_or(TrailFault::BatchesMissing)
            }
        };
        Ok(Compared { head, count, next })
    }

    /// Counts a batch that is about to be committed, and begins the count if there is none. The
    /// trail says that there is one, also where a crash separated the two.
    async fn count(
        &self,
        tx: &mut PgConnection,
        batch: &SealedBatch,
        before: Option<TrailCount>,
    ) -> Result<()> {
        let begun = before.map_or_else(Uuid::now_v7, |it| it.begun);
        if !is_event(tx, begun).await? {
            let before_batch = batch.batch.saturating_sub(1);
            let before_event = batch.first_seq.saturating_sub(1);
            let body = TrailCountBegun { batches: before_batch, events: before_event };
            append_with_id(tx, begun, &Event::new(Subject::default(), body)).await?;
        }
        let mark = Checkpoint::Batch(batch.clone()).mark();
        self.files.replace_count(&self.signed_count(&mark, begun)?).map_err(file_error)?;
        Ok(())
    }

    /// A count of `mark`, signed.
    pub(super) fn signed_count(&self, mark: &Mark, begun: Uuid) -> Result<TrailCount> {
        let mut count = TrailCount {
            batches: mark.batches,
            events: mark.events,
            kept_batch: mark.kept_batch,
            last_hash: mark.last_hash.clone(),
            begun,
            at: text_of(Timestamp::now()),
            signature: String::new(),
        };
        count.signature = self.signature(&count)?;
        Ok(count)
    }

    fn signature(&self, value: &impl serde::Serialize) -> Result<String> {
        let bytes = signed_bytes(value).ok_or_else(|| inconsistent("nothing to sign"))?;
        Ok(hex::encode(self.store.keys.sign(&bytes)))
    }

    /// Writes everything that is sealed. Returns the number of events.
    ///
    /// # Errors
    ///
    /// Fails if the database or `out` does.
    pub async fn write_all(&self, out: &mut impl Write) -> StoreResult<u64> {
        if let Some(fault) = self.fault().await? {
            return Err(unfit(fault).into());
        }
        let mut tx = self.store.begin().await?;
        sqlx::query("set transaction isolation level repeatable read read only")
            .execute(&mut *tx)
            .await
            .map_err(Error::from)?;
        file::write_head(out).map_err(file_error)?;
        let head = head(&mut tx).await?;
        let mut events = 0;
        for number in batch_numbers(&mut tx).await? {
            let stored = read_batch(&mut tx, number).await?;
            events += stored.events.len() as u64;
            file::write_batch(out, stored.events, stored.batch).map_err(file_error)?;
        }
        let mut end = End {
            end: head.seq,
            batches: head.batch,
            last_hash: hex::encode(head.hash),
            exported_at: text_of(Timestamp::now()),
            signature: String::new(),
        };
        end.signature = self.signature(&end)?;
        file::write_end(out, end).map_err(file_error)?;
        Ok(events)
    }
}

/// The next batch after `head`, not signed. Nothing if no event can be sealed yet.
async fn next_batch(
    tx: &mut PgConnection,
    head: &Head,
    events_max: i64,
) -> Result<Option<NewBatch>> {
    let rows: Vec<UnsealedRow> = sqlx::query_as(
        "select e.id, e.xid::text as xid_text, e.position, micros(e.at) as at, e.body,
            extract(epoch from clock_timestamp() - e.at)::float8 as age_seconds
         from audit.event e
         where (e.xid, e.position) > ($1::text::xid8, $2)
            and e.xid < pg_snapshot_xmin(pg_current_snapshot())
         order by e.xid, e.position limit $3",
    )
    .bind(&head.last.xid)
    .bind(head.last.position)
    .bind(events_max)
    .fetch_all(tx)
    .await?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = Place { xid: last.xid_text.clone(), position: last.position };
    if rows.iter().any(|it| it.age_seconds > UNSEALED_SECONDS_MAX) {
        warn!("events waited more than {UNSEALED_SECONDS_MAX} s for their seal");
    }
    let mut events = Vec::new();
    let mut hashes = Vec::new();
    let mut previous = head.hash;
    for (seq, row) in (head.seq + 1..).zip(rows) {
        let id = row.id.to_string();
        let at = text_of(decode::timestamp(row.at)?);
        let mut event = SealedEvent { seq, id, at, body: row.body, hash: String::new() };
        previous = chain_hash(&previous, &event.hashed())
            .map_err(|error| inconsistent(error.to_string()))?;
        event.hash = hex::encode(previous);
        hashes.push(previous);
        events.push(event);
    }
    let batch = SealedBatch {
        batch: head.batch + 1,
        first_seq: head.seq + 1,
        last_seq: head.seq + events.len() as u64,
        root: hex::encode(merkle_root(&hashes)),
        last_hash: hex::encode(previous),
        sealed_at: text_of(Timestamp::now()),
        signature: String::new(),
    };
    Ok(Some(NewBatch { batch, events, last }))
}

/// The batch that was signed after `head`, with its events. Nothing if they are not there any more.
async fn made_again(
    tx: &mut PgConnection,
    head: &Head,
    signed: SealedBatch,
) -> Result<Option<NewBatch>> {
    let before = signed.first_seq.saturating_sub(1);
    let events = column(signed.last_seq.saturating_sub(before)).min(BATCH_EVENTS_MAX);
    let head = Head { batch: signed.batch.saturating_sub(1), seq: before, ..head.clone() };
    let Some(new) = next_batch(tx, &head, events).await? else { return Ok(None) };
    let is_same = (new.batch.last_seq, &new.batch.root, &new.batch.last_hash)
        == (signed.last_seq, &signed.root, &signed.last_hash);
    Ok(is_same.then_some(NewBatch { batch: signed, ..new }))
}

impl Head {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            batches: self.batch,
            events: self.seq,
            kept_batch: self.batch,
            last_hash: hex::encode(self.hash),
        }
    }
}

/// An event that is not sealed yet.
#[derive(sqlx::FromRow)]
struct UnsealedRow {
    id: Uuid,
    xid_text: String,
    position: i64,
    at: i64,
    body: Value,
    age_seconds: f64,
}

/// Waits until no other sealer works.
pub(super) async fn lock(tx: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(SEALER_LOCK).execute(tx).await?;
    Ok(())
}

/// Whether the trail says that its batches are counted.
async fn is_count_begun(tx: &mut PgConnection) -> Result<bool> {
    let kinds = "select exists(select from audit.event e
        where e.kind in ('trail_count_begun', 'trail_loss_accepted'))";
    Ok(sqlx::query_scalar(kinds).fetch_one(tx).await?)
}

/// The error for a file that cannot be read or written.
pub(super) fn file_error(error: std::io::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}

async fn is_event(tx: &mut PgConnection, id: Uuid) -> Result<bool> {
    let query = sqlx::query_scalar("select exists(select from audit.event e where e.id = $1)");
    Ok(query.bind(id).fetch_one(tx).await?)
}

/// As the chain spells times: UTC with six digits after the point.
fn text_of(at: Timestamp) -> String {
    format!("{at:.6}")
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    number: i64,
    last_seq: i64,
    last_hash: Vec<u8>,
    last_xid: String,
    last_position: i64,
}

async fn head(tx: &mut PgConnection) -> Result<Head> {
    let row: Option<HeadRow> = sqlx::query_as(
        "select number, last_seq, last_hash, last_xid::text as last_xid, last_position
         from audit.batch order by number desc limit 1",
    )
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else {
        let last = Place { xid: "0".to_owned(), position: 0 };
        return Ok(Head { batch: 0, seq: 0, hash: GENESIS, last });
    };
    let hash = row.last_hash.try_into();
    Ok(Head {
        batch: number(row.number),
        seq: number(row.last_seq),
        hash: hash.map_err(|_| inconsistent("a hash has the wrong length"))?,
        last: Place { xid: row.last_xid, position: row.last_position },
    })
}

fn decoded(hex: &str) -> Result<Vec<u8>> {
    hex::decode(hex).map_err(|_| inconsistent("not hex"))
}

fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

async fn write_batch(tx: &mut PgConnection, new: &NewBatch) -> Result<()> {
    let batch = &new.batch;
    let seqs: Vec<i64> = new.events.iter().map(|it| column(it.seq)).collect();
    let ids: Vec<Uuid> = new.events.iter().filter_map(|it| it.id.parse().ok()).collect();
    let hashes: Vec<Vec<u8>> =
        new.events.iter().map(|it| decoded(&it.hash)).collect::<Result<_>>()?;
    let sealed_at: Timestamp =
        batch.sealed_at.parse().map_err(|_| inconsistent("a time is not one"))?;
    sqlx::query("select audit.seal_batch($1, $2, $3, $4, $5, $6, at_micros($7), $8, $9)")
        .bind(column(batch.batch))
        .bind(seqs)
        .bind(ids)
        .bind(hashes)
        .bind(&new.last.xid)
        .bind(new.last.position)
        .bind(sealed_at.as_microsecond())
        .bind(decoded(&batch.root)?)
        .bind(decoded(&batch.signature)?)
        .execute(tx)
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct BatchRow {
    first_seq: i64,
    last_seq: i64,
    root: Vec<u8>,
    last_hash: Vec<u8>,
    sealed_at: i64,
    signature: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct SealedRow {
    seq: i64,
    id: Uuid,
    at: i64,
    body: Value,
    hash: Vec<u8>,
}

/// A batch as it was sealed, with its events in order.
struct StoredBatch {
    batch: SealedBatch,
    events: Vec<SealedEvent>,
}

/// The numbers of all batches. Some are not there where a person accepted a loss.
async fn batch_numbers(tx: &mut PgConnection) -> Result<Vec<i64>> {
    let query = sqlx::query_scalar("select number from audit.batch order by number");
    Ok(query.fetch_all(tx).await?)
}

async fn read_batch(tx: &mut PgConnection, batch: i64) -> Result<StoredBatch> {
    let row: Option<BatchRow> = sqlx::query_as(
        "select first_seq, last_seq, root, last_hash, micros(sealed_at) as sealed_at, signature
         from audit.batch where number = $1",
    )
    .bind(batch)
    .fetch_optional(&mut *tx)
    .await?;
    let row = row.ok_or_else(|| inconsistent("a batch is missing"))?;
    let event_rows: Vec<SealedRow> = sqlx::query_as(
        "select s.seq, e.id, micros(e.at) as at, e.body, s.hash
         from audit.seal s join audit.event e on e.id = s.event
         where s.seq between $1 and $2 order by s.seq",
    )
    .bind(row.first_seq)
    .bind(row.last_seq)
    .fetch_all(tx)
    .await?;
    let mut events = Vec::new();
    for event in event_rows {
        events.push(SealedEvent {
            seq: number(event.seq),
            id: event.id.to_string(),
            at: text_of(decode::timestamp(event.at)?),
            body: event.body,
            hash: hex::encode(event.hash),
        });
    }
    let batch = SealedBatch {
        batch: number(batch),
        first_seq: number(row.first_seq),
        last_seq: number(row.last_seq),
        root: hex::encode(row.root),
        last_hash: hex::encode(row.last_hash),
        sealed_at: text_of(decode::timestamp(row.sealed_at)?),
        signature: hex::encode(row.signature),
    };
    Ok(StoredBatch { batch, events })
}
