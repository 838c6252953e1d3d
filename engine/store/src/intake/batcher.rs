//! Batches of records that wait at the same time: one statement, one transaction and one flush of
//! the database's log for all of them.
//!
//! A [`BatchWriter`] is the front: callers hand records to it and wait for the outcome. Behind it,
//! one worker forms a batch after the other and writes it with [`BatchInsert::insert_batch`]. That
//! statement takes only records whose decisions are simple; every other record is inserted in a
//! transaction of its own with [`BatchInsert::insert_one`]. A record that waits alone is a batch of
//! one.
//!
//! While a batch is written, the next one collects in the queue. On top of that, the worker waits
//! for a short *batch window* if steady senders are likely to send their next record soon: a batch
//! costs hardly more than a single record.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use contracts::StoreError;
use domain::ErrorChain;
use futures_util::FutureExt as _;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};
use uuid::Uuid;

use crate::error::{Error, Result, StoreResult};

/// Upper bound of a batch: its transaction locks the rows it changes until it ends.
const BATCH_RECORDS_MAX: usize = 64;

/// Upper bound of records that wait for a batch. Further callers wait for a place (backpressure).
const QUEUE_RECORDS_MAX: usize = 256;

/// Upper bound of single inserts that run at the same time.
const SINGLE_INSERTS_MAX: usize = 6;

/// Longest wait for more records to join a batch.
const BATCH_WINDOW_MAX: Duration = Duration::from_millis(3);

/// A sender that has been idle for this long is not waited for.
const SENDER_IDLE_MAX: Duration = Duration::from_millis(50);

/// How long a batch waits for a database that cannot be reached, such as one that starts anew,
/// before its records are refused.
const OUTAGE_MAX: Duration = Duration::from_secs(10);

/// How long to wait before a batch is written again after the database could not be reached.
const OUTAGE_RETRY: Duration = Duration::from_millis(250);

/// Inserts one kind of record, in batches or one by one.
pub(crate) trait BatchInsert: Clone + Send + Sync + 'static {
    /// The record to insert.
    type Record: Send + Sync + 'static;
    /// What became of it.
    type Outcome: Send + 'static;

    /// The outcome of every record that [`Self::insert_batch`] inserted.
    const INSERTED: Self::Outcome;

    /// The association or connection on which a record came, if that brings one at a time.
    fn sender(record: &Self::Record) -> Option<Uuid>;

    /// Inserts the records that need no closer look, and returns their positions, counted from 1.
    fn insert_batch(
        &self,
        connection: &mut PgConnection,
        records: &[&Self::Record],
    ) -> impl Future<Output = Result<Vec<i64>>> + Send;

    /// Inserts one record in a transaction of its own.
    fn insert_one(
        &self,
        record: &Self::Record,
    ) -> impl Future<Output = Result<Self::Outcome>> + Send;
}

/// A record in the queue, and the caller that waits for its outcome.
struct Queued<I: BatchInsert> {
    record: I::Record,
    caller: oneshot::Sender<StoreResult<I::Outcome>>,
}

/// Hands records to a worker that writes them in batches. The worker ends when this is dropped.
pub(crate) struct BatchWriter<I: BatchInsert>(mpsc::Sender<Queued<I>>);

impl<I: BatchInsert> BatchWriter<I> {
    /// Starts a worker.
    pub(crate) fn start(pool: &PgPool, insert: I) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_RECORDS_MAX);
        let worker = BatchWorker {
            pool: pool.clone(),
            insert,
            connection: None,
            window: BatchWindow::default(),
        };
        tokio::spawn(worker.run(queue));
        Self(sender)
    }

    /// Writes a record, and returns its outcome once it is committed.
    pub(crate) async fn write(&self, record: I::Record) -> StoreResult<I::Outcome> {
        let (caller, outcome) = oneshot::channel();
        self.0.send(Queued { record, caller }).await.map_err(|_| worker_ended())?;
        outcome.await.map_err(|_| worker_ended())?
    }
}

fn worker_ended() -> StoreError {
    StoreError::Database("the batch writer has ended".into())
}

/// Estimates how many records are worth waiting for.
///
/// A *steady* sender sends one record after the other, and is likely to send the next one soon.
/// Half of the steady senders are waited for: while they wait for their outcomes, the other half
/// can send.
#[derive(Default)]
struct BatchWindow(HashMap<Uuid, SenderActivity>);

struct SenderActivity {
    last_sent: Instant,
    /// False after a single record: many peers open an association for each.
    is_steady: bool,
}

impl BatchWindow {
    /// Notes that these senders have sent a record at `now`, and returns the size a batch should
    /// reach.
    fn note_senders(&mut self, now: Instant, senders: impl Iterator<Item = Uuid>) -> usize {
        self.0.retain(|_, sender| now.duration_since(sender.last_sent) < SENDER_IDLE_MAX);
        for sender in senders {
            self.0
                .entry(sender)
                .and_modify(|known| *known = SenderActivity { last_sent: now, is_steady: true })
                .or_insert(SenderActivity { last_sent: now, is_steady: false });
        }
        self.0.values().filter(|sender| sender.is_steady).count() / 2
    }
}

/// Forms batches and writes them, one after the other.
struct BatchWorker<I> {
    pool: PgPool,
    insert: I,
    /// The connection of the last batch, if it is still good.
    connection: Option<PoolConnection<Postgres>>,
    window: BatchWindow,
}

impl<I: BatchInsert> BatchWorker<I> {
    async fn run(mut self, mut queue: mpsc::Receiver<Queued<I>>) {
        let mut batch = Vec::new();
        // Closing the pool waits for the connection that is held here.
        let mut closed = self.pool.close_event();
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut batch, BATCH_RECORDS_MAX) => if count == 0 { return },
                () = &mut closed => return,
            }
            self.collect(&mut batch, &mut queue).await;
            let written = self.write(std::mem::take(&mut batch));
            // After a panic, the callers of this batch get an error and the next batch is formed.
            if AssertUnwindSafe(written).catch_unwind().await.is_err() {
                error!("a batch was not written: a fault of the program");
            }
        }
    }

    /// Waits for more records, at most for the batch window.
    async fn collect(&mut self, batch: &mut Vec<Queued<I>>, queue: &mut mpsc::Receiver<Queued<I>>) {
        let begin = Instant::now();
        let senders = batch.iter().filter_map(|queued| I::sender(&queued.record));
        let mut size = self.window.note_senders(begin, senders);
        while batch.len() < size.min(BATCH_RECORDS_MAX) {
            let next = timeout_at(begin + BATCH_WINDOW_MAX, queue.recv()).await;
            let Ok(Some(next)) = next else { return };
            let sender = I::sender(&next.record);
            size = self.window.note_senders(Instant::now(), sender.into_iter());
            batch.push(next);
        }
    }

    /// Writes a batch, again while the database cannot be reached. A record that was written all
    /// the same is found and taken for a repetition.
    async fn insert_when_reachable(&mut self, records: &[&I::Record]) -> Result<Vec<i64>> {
        let begin = Instant::now();
        loop {
            match self.insert_batch(records).await {
                Err(error) if may_return(&error) && begin.elapsed() < OUTAGE_MAX => {
                    warn!(error = %ErrorChain(&error), "a batch waits for the database");
                    tokio::time::sleep(OUTAGE_RETRY).await;
                }
                ended => return ended,
            }
        }
    }

    async fn write(&mut self, batch: Vec<Queued<I>>) {
        let records: Vec<&I::Record> = batch.iter().map(|queued| &queued.record).collect();
        let inserted = match self.insert_when_reachable(&records).await {
            Ok(inserted) => inserted,
            // No record would fare better alone, and each would wait for as long.
            Err(error) if is_unreachable(&error) => {
                error!(error = %ErrorChain(&error), "a batch cannot be written");
                for queued in batch {
                    let error = StoreError::Database("the database does not answer".into());
                    _ = queued.caller.send(Err(error));
                }
                return;
            }
            // One record may be to blame: each is tried on its own.
            Err(error) => {
                warn!(error = %ErrorChain(&error), "a batch failed; its records are written singly");
                Vec::new()
            }
        };
        let mut single_inserts = JoinSet::new();
        for (position, queued) in (1..).zip(batch) {
            if inserted.contains(&position) {
                // A caller that is gone needs no outcome; its record is stored.
                _ = queued.caller.send(Ok(I::INSERTED));
                continue;
            }
            if single_inserts.len() >= SINGLE_INSERTS_MAX {
                single_inserts.join_next().await;
            }
            let insert = self.insert.clone();
            single_inserts.spawn(async move {
                let outcome = insert.insert_one(&queued.record).await;
                _ = queued.caller.send(outcome.map_err(StoreError::from));
            });
        }
        // The next batch must find what these have changed.
        while single_inserts.join_next().await.is_some() {}
    }

    async fn insert_batch(&mut self, records: &[&I::Record]) -> Result<Vec<i64>> {
        if let Some(mut connection) = self.connection.take() {
            match self.insert.insert_batch(&mut connection, records).await {
                // The connection broke since the last batch; a new one may work.
                Err(error) if is_unreachable(&error) => {}
                inserted => {
                    self.connection = inserted.is_ok().then_some(connection);
                    return inserted;
                }
            }
        }
        let mut connection = self.pool.acquire().await?;
        let inserted = self.insert.insert_batch(&mut connection, records).await?;
        self.connection = Some(connection);
        Ok(inserted)
    }
}

/// Whether the database could not be reached at all.
const fn is_unreachable(error: &Error) -> bool {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, WorkerCrashed};
    matches!(error, Error::Sql(Io(_) | PoolClosed | PoolTimedOut | WorkerCrashed))
}

/// Whether a database that cannot be reached may answer soon. A pool that is closed never does, and
/// one that ran into its limit of time has waited already.
fn may_return(error: &Error) -> bool {
    match error {
        Error::Sql(sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed) => true,
        // It stops, was stopped by a crash, or is starting (class 57 of its error codes).
        Error::Sql(sqlx::Error::Database(refusal)) => {
            matches!(refusal.code().as_deref(), Some("57P01" | "57P02" | "57P03"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_sender_waits_for_nobody_and_of_many_senders_half_are_waited_for() {
        let begin = Instant::now();
        let mut window = BatchWindow::default();
        let ids: Vec<Uuid> = (0..16).map(Uuid::from_u128).collect();
        let of = |range: std::ops::Range<usize>| ids[range].iter().copied();
        assert_eq!(window.note_senders(begin, of(0..16)), 0);
        assert_eq!(window.note_senders(begin, of(0..1)), 0);
        assert_eq!(window.note_senders(begin, of(0..4)), 2);
        assert_eq!(window.note_senders(begin + SENDER_IDLE_MAX / 2, of(4..16)), 8);
        // The first four have been idle for too long.
        assert_eq!(window.note_senders(begin + SENDER_IDLE_MAX, of(4..5)), 6);
        assert_eq!(window.note_senders(begin + 2 * SENDER_IDLE_MAX, of(9..10)), 0);
    }

    #[test]
    fn a_sender_that_opens_an_association_for_each_record_waits_for_nobody() {
        let begin = Instant::now();
        let mut window = BatchWindow::default();
        for at in 0..40 {
            let time = begin + Duration::from_millis(at);
            assert_eq!(window.note_senders(time, std::iter::once(Uuid::now_v7())), 0);
        }
    }

    #[test]
    fn acc_05_a_batch_waits_for_a_database_that_may_return_and_for_no_other() {
        let broken = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(may_return(&Error::Sql(broken)));
        for lasting in
            [sqlx::Error::PoolClosed, sqlx::Error::PoolTimedOut, sqlx::Error::RowNotFound]
        {
            assert!(!may_return(&Error::Sql(lasting)));
        }
    }
}
