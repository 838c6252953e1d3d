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
//! root is signed. The signed batch is written to a file outside of the database *before* it is
//! committed: a batch that only the file knows is signed again with the same number, one that only
//! the database knows could be removed unseen.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::StoreError;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use tracing::{error, warn};
use uuid::Uuid;

use crate::database::decode;
use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, Result, StoreResult, inconsistent};
use crate::trail::file;
use crate::trail::file::{
    End, GENESIS, Hash, SealedBatch, SealedEvent, chain_hash, merkle_root, signed_bytes,
};

/// Upper bound of the events in a batch, and so of what one transaction of the sealer reads.
const BATCH_EVENTS_MAX: i64 = 1_000;

/// How often the trail is sealed.
const PERIOD: Duration = Duration::from_secs(1);

/// How often [`Sealer::seal_all`] checks whether another engine has sealed.
const SEAL_CHECK_PERIOD: Duration = Duration::from_millis(100);

/// An event that waits longer for its seal is worth a warning: a transaction hangs.
const UNSEALED_SECONDS_MAX: f64 = 30.0;

/// Upper bound of a line in the file of exported batches.
const CHECKPOINT_BYTES_MAX: u64 = 4096;

/// One sealer works per cluster: the one that holds this advisory lock.
const SEALER_LOCK: i64 = 0x1D_0002;

/// Seals events into signed batches.
pub struct Sealer {
    store: Arc<PgStore>,
    checkpoints: PathBuf,
}

/// The head of the chain: the last batch and the last event that are sealed.
struct Head {
    batch: i64,
    seq: i64,
    hash: Hash,
    last: Place,
}

/// The place of an event in the order of sealing.
struct Place {
    /// The transaction that appended it, as text: sqlx has no type for `xid8`.
    xid: String,
    /// Its number in the table.
    position: i64,
}

/// A batch that is signed and not yet stored.
struct NewBatch {
    batch: SealedBatch,
    events: Vec<SealedEvent>,
    last: Place,
}

impl Sealer {
    /// A sealer that exports its batches to the file `checkpoints`.
    pub fn new(store: Arc<PgStore>, checkpoints: PathBuf) -> Self {
        Self { store, checkpoints }
    }

    /// Seals until the future is dropped.
    pub async fn run(&self) {
        loop {
            match self.seal().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => error!(error = %domain::ErrorChain(&error), "sealing failed"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Seals one batch. False if there was nothing to seal.
    ///
    /// # Errors
    ///
    /// Fails if the database or the file for the batches does. Nothing is lost: the next call
    /// tries again.
    pub async fn seal(&self) -> StoreResult<bool> {
        let mut tx = self.store.begin().await?;
        let is_ours: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
            .bind(SEALER_LOCK)
            .fetch_one(&mut *tx)
            .await
            .map_err(Error::from)?;
        if !is_ours {
            return Ok(false);
        }
        let head = head(&mut tx).await?;
        self.check(&head)?;
        let Some(new) = self.next_batch(&mut tx, &head).await? else { return Ok(false) };
        write_batch(&mut tx, &new).await?;
        // Before the commit: see the head of this file.
        self.export(&new.batch).map_err(file_error)?;
        commit(tx).await?;
        Ok(true)
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

    /// Signs the next batch. Nothing if no event can be sealed yet.
    async fn next_batch(&self, tx: &mut PgConnection, head: &Head) -> Result<Option<NewBatch>> {
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
        .bind(BATCH_EVENTS_MAX)
        .fetch_all(tx)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = Place { xid: last.xid_text.clone(), position: last.position };
        if rows.iter().any(|it| it.age_seconds > UNSEALED_SECONDS_MAX) {
            warn!("events waited more than {UNSEALED_SECONDS_MAX} s for their seal");
        }
        let sealed_before = u64::try_from(head.seq).unwrap_or_default();
        let mut events = Vec::new();
        let mut hashes = Vec::new();
        let mut previous = head.hash;
        for (seq, row) in (sealed_before + 1..).zip(rows) {
            let id = row.id.to_string();
            let at = text_of(decode::timestamp(row.at)?);
            let mut event = SealedEvent { seq, id, at, body: row.body, hash: String::new() };
            previous = chain_hash(&previous, &event.hashed())
                .map_err(|error| inconsistent(error.to_string()))?;
            event.hash = hex::encode(previous);
            hashes.push(previous);
            events.push(event);
        }
        let mut batch = SealedBatch {
            batch: u64::try_from(head.batch).unwrap_or_default() + 1,
            first_seq: sealed_before + 1,
            last_seq: sealed_before + events.len() as u64,
            root: hex::encode(merkle_root(&hashes)),
            last_hash: hex::encode(previous),
            sealed_at: text_of(Timestamp::now()),
            signature: String::new(),
        };
        batch.signature = self.signature(&batch)?;
        Ok(Some(NewBatch { batch, events, last }))
    }

    fn signature(&self, value: &impl serde::Serialize) -> Result<String> {
        let bytes = signed_bytes(value).ok_or_else(|| inconsistent("nothing to sign"))?;
        Ok(hex::encode(self.store.keys.sign(&bytes)))
    }

    /// Compares the database with the last exported batch: batches that are missing at the end of
    /// the chain would show nowhere else (AUD-03).
    fn check(&self, head: &Head) -> Result<()> {
        let Some(last) = last_line(&self.checkpoints) else { return Ok(()) };
        let Ok(exported) = serde_json::from_str::<SealedBatch>(&last) else {
            // Torn by a crash: the one before it was whole once, and is covered by the next.
            return Ok(());
        };
        let batch = u64::try_from(head.batch).unwrap_or_default();
        // One ahead is what a crash between export and commit leaves.
        let is_cut = exported.batch > batch + 1;
        let is_other = exported.batch == batch && exported.last_hash != hex::encode(head.hash);
        if is_cut || is_other {
            let what = "batches that were signed and exported are missing from the trail";
            return Err(inconsistent(what));
        }
        Ok(())
    }

    fn export(&self, batch: &SealedBatch) -> std::io::Result<()> {
        if let Some(folder) = self.checkpoints.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.checkpoints)?;
        let text = serde_json::to_string(batch).map_err(std::io::Error::other)?;
        // A line that a crash tore must not swallow this one.
        let is_torn = last_byte(&self.checkpoints).is_some_and(|it| it != b'\n');
        let start = if is_torn { "\n" } else { "" };
        file.write_all(format!("{start}{text}\n").as_bytes())?;
        file.sync_data()
    }

    /// Writes everything that is sealed. Returns the number of events.
    ///
    /// # Errors
    ///
    /// Fails if the database or `out` does.
    pub async fn write_all(&self, out: &mut impl Write) -> StoreResult<u64> {
        let mut tx = self.store.begin().await?;
        sqlx::query("set transaction isolation level repeatable read read only")
            .execute(&mut *tx)
            .await
            .map_err(Error::from)?;
        file::write_head(out).map_err(file_error)?;
        let head = head(&mut tx).await?;
        self.check(&head)?;
        for number in 1..=head.batch {
            let stored = read_batch(&mut tx, number).await?;
            file::write_batch(out, stored.events, stored.batch).map_err(file_error)?;
        }
        let mut end = End {
            end: u64::try_from(head.seq).unwrap_or_default(),
            batches: u64::try_from(head.batch).unwrap_or_default(),
            last_hash: hex::encode(head.hash),
            exported_at: text_of(Timestamp::now()),
            signature: String::new(),
        };
        end.signature = self.signature(&end)?;
        let events = end.end;
        file::write_end(out, end).map_err(file_error)?;
        Ok(events)
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

/// The error for a file that cannot be written.
fn file_error(error: std::io::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}

/// The last byte of a file, if it has one.
fn last_byte(path: &Path) -> Option<u8> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = fs::File::open(path).ok()?;
    file.seek(SeekFrom::End(-1)).ok()?;
    let mut byte = [0; 1];
    file.read_exact(&mut byte).ok()?;
    byte.first().copied()
}

/// The last line of a file, if it has one.
fn last_line(path: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(CHECKPOINT_BYTES_MAX))).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.lines().last().map(ToOwned::to_owned)
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
        batch: row.number,
        seq: row.last_seq,
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
