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

use crate::database::pg_store::PgStore;
use crate::error::{Error, Result, inconsistent};
use crate::run::snapshot::time;
use crate::trail::file;
use crate::trail::file::{
    End, GENESIS, Hash, SealedBatch, SealedEvent, chain_hash, merkle_root, signed_bytes,
};

/// Most events of a batch (architecture §7).
const BATCH_EVENTS_MAX: i64 = 1_000;

/// How often the trail is sealed.
const PERIOD: Duration = Duration::from_secs(1);

/// How often it is looked whether somebody else has sealed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An event that has waited longer for its seal is worth a warning: a transaction hangs.
const UNSEALED_SECONDS_MAX: f64 = 30.0;

/// A line of the exported batches is shorter.
const CHECKPOINT_BYTES_MAX: u64 = 4096;

/// One sealer works per cluster: the one that holds this advisory lock.
const SEALER_LOCK: i64 = 0x1D_0002;

/// Gives events their place in the chain, and exports the signed batches off the database.
pub struct Sealer {
    store: Arc<PgStore>,
    checkpoints: PathBuf,
}

/// Where the chain stands.
struct Head {
    batch: i64,
    seq: i64,
    hash: Hash,
    xid: String,
    position: i64,
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
    pub async fn seal(&self) -> std::result::Result<bool, StoreError> {
        let mut tx = self.store.pool.begin().await.map_err(Error::from)?;
        let (is_ours,): (bool,) = sqlx::query_as("select pg_try_advisory_xact_lock($1)")
            .bind(SEALER_LOCK)
            .fetch_one(&mut *tx)
            .await
            .map_err(Error::from)?;
        if !is_ours {
            return Ok(false);
        }
        let head = head(&mut tx).await?;
        self.check(&head)?;
        let Some((batch, xid, position, events)) = self.next_batch(&mut tx, &head).await? else {
            return Ok(false);
        };
        write_batch(&mut tx, &batch, &events, (&xid, position)).await?;
        // Exported before it is committed: a batch that only the file knows is signed again with
        // the same number, one that only the database knows could be removed unseen.
        self.export(&batch).map_err(|it| StoreError::Database(Box::new(it)))?;
        tx.commit().await.map_err(Error::from)?;
        Ok(true)
    }

    /// Seals until everything that is in the trail by now is sealed, by us or by an engine at work. False
    /// if that takes longer than `at_most`: a transaction that is open holds back what came after it.
    ///
    /// # Errors
    ///
    /// Fails if the database or the file for the batches does.
    pub async fn seal_all(&self, at_most: Duration) -> std::result::Result<bool, StoreError> {
        let begin = Instant::now();
        let mut connection = self.store.pool.acquire().await.map_err(Error::from)?;
        let mark = "select coalesce(max(position), 0) from audit.event";
        let (mark,): (i64,) =
            sqlx::query_as(mark).fetch_one(&mut *connection).await.map_err(Error::from)?;
        loop {
            let is_sealed = self.seal().await?;
            let head = head(&mut connection).await?;
            let (is_open,): (bool,) = sqlx::query_as(
                "select exists(select from audit.event e where e.position <= $1
                    and (e.xid, e.position) > ($2::text::xid8, $3))",
            )
            .bind(mark)
            .bind(&head.xid)
            .bind(head.position)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::from)?;
            if !is_open || begin.elapsed() > at_most {
                return Ok(!is_open);
            }
            if !is_sealed {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    async fn next_batch(
        &self,
        tx: &mut PgConnection,
        head: &Head,
    ) -> Result<Option<(SealedBatch, String, i64, Vec<SealedEvent>)>> {
        let rows: Vec<(Uuid, String, i64, i64, Value, f64)> = sqlx::query_as(
            "select e.id, e.xid::text as xid_text, e.position, micros(e.at), e.body,
                extract(epoch from clock_timestamp() - e.at)::float8
             from audit.event e
             where (e.xid, e.position) > ($1::text::xid8, $2)
                and e.xid < pg_snapshot_xmin(pg_current_snapshot())
             order by e.xid, e.position limit $3",
        )
        .bind(&head.xid)
        .bind(head.position)
        .bind(BATCH_EVENTS_MAX)
        .fetch_all(tx)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let (xid, position) = (last.1.clone(), last.2);
        if rows.iter().any(|it| it.5 > UNSEALED_SECONDS_MAX) {
            warn!("events waited more than {UNSEALED_SECONDS_MAX} s for their seal");
        }
        let (mut events, mut hashes, mut previous) = (Vec::new(), Vec::new(), head.hash);
        for (index, (id, _, _, at, body, _)) in rows.into_iter().enumerate() {
            let seq = u64::try_from(head.seq).unwrap_or_default() + index as u64 + 1;
            let (id, at) = (id.to_string(), text_of(time(at)?));
            let mut event = SealedEvent { seq, id, at, body, hash: String::new() };
            previous = chain_hash(&previous, &event.hashed())
                .map_err(|it| inconsistent(it.to_string()))?;
            event.hash = hex::encode(previous);
            hashes.push(previous);
            events.push(event);
        }
        let mut batch = SealedBatch {
            batch: u64::try_from(head.batch).unwrap_or_default() + 1,
            first_seq: u64::try_from(head.seq).unwrap_or_default() + 1,
            last_seq: u64::try_from(head.seq).unwrap_or_default() + events.len() as u64,
            root: hex::encode(merkle_root(&hashes)),
            last_hash: hex::encode(previous),
            sealed_at: text_of(Timestamp::now()),
            signature: String::new(),
        };
        batch.signature = self.signature(&batch)?;
        Ok(Some((batch, xid, position, events)))
    }

    fn signature(&self, value: &impl serde::Serialize) -> Result<String> {
        let bytes = signed_bytes(value).ok_or_else(|| inconsistent("nothing to sign"))?;
        Ok(hex::encode(self.store.keys.sign(&bytes)))
    }

    /// Compares the database with the last batch that was exported off it: batches that are missing
    /// at its end would show nowhere else (AUD-03).
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

    /// Writes all that is sealed.
    ///
    /// # Errors
    ///
    /// Fails if the database or `out` does.
    pub async fn write_all(&self, out: &mut impl Write) -> std::result::Result<u64, StoreError> {
        let io = |it: std::io::Error| StoreError::Database(Box::new(it));
        let mut tx = self.store.pool.begin().await.map_err(Error::from)?;
        sqlx::query("set transaction isolation level repeatable read read only")
            .execute(&mut *tx)
            .await
            .map_err(Error::from)?;
        file::write_head(out).map_err(io)?;
        let head = head(&mut tx).await?;
        self.check(&head)?;
        for number in 1..=head.batch {
            let (batch, events) = read_batch(&mut tx, number).await?;
            file::write_batch(out, events, batch).map_err(io)?;
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
        file::write_end(out, end).map_err(io)?;
        Ok(events)
    }
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

async fn head(tx: &mut PgConnection) -> Result<Head> {
    let row: Option<(i64, i64, Vec<u8>, String, i64)> = sqlx::query_as(
        "select number, last_seq, last_hash, last_xid::text, last_position
         from audit.batch order by number desc limit 1",
    )
    .fetch_optional(tx)
    .await?;
    let Some((batch, seq, hash, xid, position)) = row else {
        let xid = "0".to_owned();
        return Ok(Head { batch: 0, seq: 0, hash: GENESIS, xid, position: 0 });
    };
    let hash = hash.try_into().map_err(|_| inconsistent("a hash has the wrong length"))?;
    Ok(Head { batch, seq, hash, xid, position })
}

async fn write_batch(
    tx: &mut PgConnection,
    batch: &SealedBatch,
    events: &[SealedEvent],
    (xid, position): (&str, i64),
) -> Result<()> {
    let bytes = |text: &str| hex::decode(text).map_err(|_| inconsistent("not hex"));
    let number = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    let seqs: Vec<i64> = events.iter().map(|it| number(it.seq)).collect();
    let ids: Vec<Uuid> = events.iter().filter_map(|it| it.id.parse().ok()).collect();
    let hashes: Vec<Vec<u8>> = events.iter().map(|it| bytes(&it.hash)).collect::<Result<_>>()?;
    let sealed_at: Timestamp =
        batch.sealed_at.parse().map_err(|_| inconsistent("a time is not one"))?;
    sqlx::query("select audit.seal_batch($1, $2, $3, $4, $5, $6, at_micros($7), $8, $9)")
        .bind(number(batch.batch))
        .bind(seqs)
        .bind(ids)
        .bind(hashes)
        .bind(xid)
        .bind(position)
        .bind(sealed_at.as_microsecond())
        .bind(bytes(&batch.root)?)
        .bind(bytes(&batch.signature)?)
        .execute(tx)
        .await?;
    Ok(())
}

type BatchRow = (i64, i64, Vec<u8>, Vec<u8>, i64, Vec<u8>);

async fn read_batch(tx: &mut PgConnection, number: i64) -> Result<(SealedBatch, Vec<SealedEvent>)> {
    let (first, last, root, last_hash, sealed_at, signature): BatchRow = sqlx::query_as(
        "select first_seq, last_seq, root, last_hash, micros(sealed_at), signature
         from audit.batch where number = $1",
    )
    .bind(number)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or_else(|| inconsistent("a batch is missing"))?;
    let rows: Vec<(i64, Uuid, i64, Value, Vec<u8>)> = sqlx::query_as(
        "select s.seq, e.id, micros(e.at), e.body, s.hash
         from audit.seal s join audit.event e on e.id = s.event
         where s.seq between $1 and $2 order by s.seq",
    )
    .bind(first)
    .bind(last)
    .fetch_all(tx)
    .await?;
    let number_of = |it: i64| u64::try_from(it).unwrap_or_default();
    let mut events = Vec::new();
    for (seq, id, at, body, hash) in rows {
        let (seq, id, at) = (number_of(seq), id.to_string(), text_of(time(at)?));
        events.push(SealedEvent { seq, id, at, body, hash: hex::encode(hash) });
    }
    let batch = SealedBatch {
        batch: number_of(number),
        first_seq: number_of(first),
        last_seq: number_of(last),
        root: hex::encode(root),
        last_hash: hex::encode(last_hash),
        sealed_at: text_of(time(sealed_at)?),
        signature: hex::encode(signature),
    };
    Ok((batch, events))
}
