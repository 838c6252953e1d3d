//! What waits at the same time is kept together: one question, one transaction, and one flush of the
//! database's log for all of it. Who waits alone is a group of one.

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

use crate::error::{Error, Result};

/// Most of one transaction: it holds the rows it changes until it ends.
const GROUP_MAX: usize = 64;

/// How many may wait to be taken into a group. Who comes then waits for a place.
const WAITING_MAX: usize = 256;

/// Most that are kept alone at once.
const ALONE_MAX: usize = 6;

/// Longest wait for others to join a group.
const GATHER_TIME_MAX: Duration = Duration::from_millis(3);

/// Who has not sent anything for so long is not waited for.
const QUIET_TIME: Duration = Duration::from_millis(50);

/// How something is kept, together with others like it or alone.
pub(crate) trait Keep: Clone + Send + Sync + 'static {
    /// What is kept.
    type Record: Send + Sync + 'static;
    /// What became of it.
    type Kept: Send + 'static;

    /// What became of what was kept together.
    const NEW: Self::Kept;

    /// On which association or connection it came, if that brings one at a time.
    fn sender(record: &Self::Record) -> Option<Uuid>;

    /// Keeps those that can be kept together, and gives their places, the first of which is 1.
    fn together(
        &self,
        connection: &mut PgConnection,
        records: &[&Self::Record],
    ) -> impl Future<Output = Result<Vec<i64>>> + Send;

    /// Keeps one in a transaction of its own.
    fn alone(&self, record: &Self::Record) -> impl Future<Output = Result<Self::Kept>> + Send;
}

/// A record, and who waits for it.
struct Waiting<K: Keep> {
    record: K::Record,
    answer: oneshot::Sender<std::result::Result<K::Kept, StoreError>>,
}

/// The way to where groups are made, one after the other: a group is the cheaper, the more there are in it.
pub(crate) struct Groups<K: Keep>(mpsc::Sender<Waiting<K>>);

impl<K: Keep> Groups<K> {
    /// Begins to make groups, until this is dropped.
    pub(crate) fn begin(pool: &PgPool, keep: &K) -> Self {
        let (to, from) = mpsc::channel(WAITING_MAX);
        let (pool, keep) = (pool.clone(), keep.clone());
        let senders = SteadySenders::default();
        tokio::spawn(GroupMaker { pool, keep, held: None, senders }.work(from));
        Self(to)
    }

    /// Keeps a record, and says so once it is committed.
    pub(crate) async fn keep(&self, record: K::Record) -> std::result::Result<K::Kept, StoreError> {
        let ended = || StoreError::Database("nobody keeps it just now".into());
        let (answer, answered) = oneshot::channel();
        self.0.send(Waiting { record, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// Who sends one thing after the other, and is likely to send the next one soon.
#[derive(Default)]
struct SteadySenders(HashMap<Uuid, Sender>);

struct Sender {
    last: Instant,
    /// Not so if it sent one thing only: many open an association for each.
    is_steady: bool,
}

impl SteadySenders {
    /// Takes in that these have sent something now, and gives half of how many there are: while they wait for
    /// an answer, the other half can send.
    fn half(&mut self, now: Instant, senders: impl Iterator<Item = Uuid>) -> usize {
        self.0.retain(|_, it| now.duration_since(it.last) < QUIET_TIME);
        for sender in senders {
            let again = |it: &mut Sender| *it = Sender { last: now, is_steady: true };
            let first = Sender { last: now, is_steady: false };
            self.0.entry(sender).and_modify(again).or_insert(first);
        }
        self.0.values().filter(|it| it.is_steady).count() / 2
    }
}

/// Makes groups.
struct GroupMaker<K> {
    pool: PgPool,
    keep: K,
    /// The connection of the last group, if it is still good.
    held: Option<PoolConnection<Postgres>>,
    senders: SteadySenders,
}

impl<K: Keep> GroupMaker<K> {
    async fn work(mut self, mut from: mpsc::Receiver<Waiting<K>>) {
        let mut group = Vec::new();
        // Who closes the pool waits for the connection that is held here.
        let mut closed = self.pool.close_event();
        loop {
            tokio::select! {
                biased;
                count = from.recv_many(&mut group, GROUP_MAX) => if count == 0 { return },
                () = &mut closed => return,
            }
            self.gather(&mut group, &mut from).await;
            let kept = self.keep_group(std::mem::take(&mut group));
            // Who waits for an answer of a group that failed is told so; the next group is another.
            if AssertUnwindSafe(kept).catch_unwind().await.is_err() {
                error!("a group could not be kept: a fault of the program");
            }
        }
    }

    /// Waits a moment for those who are likely to come: a group costs hardly more than one of it.
    async fn gather(&mut self, group: &mut Vec<Waiting<K>>, from: &mut mpsc::Receiver<Waiting<K>>) {
        let begin = Instant::now();
        let first = group.iter().filter_map(|it| K::sender(&it.record));
        let mut wanted = self.senders.half(begin, first);
        while group.len() < wanted.min(GROUP_MAX) {
            let next = timeout_at(begin + GATHER_TIME_MAX, from.recv()).await;
            let Ok(Some(next)) = next else { return };
            wanted = self.senders.half(Instant::now(), K::sender(&next.record).into_iter());
            group.push(next);
        }
    }

    async fn keep_group(&mut self, group: Vec<Waiting<K>>) {
        let records: Vec<&K::Record> = group.iter().map(|it| &it.record).collect();
        let together = match self.keep_together(&records).await {
            Ok(together) => together,
            // Nobody would fare better alone, and each would wait for as long.
            Err(error) if is_away(&error) => {
                let away = || StoreError::Database("the database does not answer".into());
                error!(error = %ErrorChain(&error), "a group cannot be kept");
                for waiting in group {
                    _ = waiting.answer.send(Err(away()));
                }
                return;
            }
            // If one of them is to blame, each is tried on its own.
            Err(error) => {
                warn!(error = %ErrorChain(&error), "a group is not kept together");
                Vec::new()
            }
        };
        let mut alone = JoinSet::new();
        for (place, waiting) in (1..).zip(group) {
            if together.contains(&place) {
                // Who is gone has no use for the answer; what it sent is kept.
                _ = waiting.answer.send(Ok(K::NEW));
                continue;
            }
            if alone.len() >= ALONE_MAX {
                alone.join_next().await;
            }
            let keep = self.keep.clone();
            alone.spawn(async move {
                let kept = keep.alone(&waiting.record).await;
                _ = waiting.answer.send(kept.map_err(StoreError::from));
            });
        }
        // The next group must find what these have changed.
        while alone.join_next().await.is_some() {}
    }

    async fn keep_together(&mut self, records: &[&K::Record]) -> Result<Vec<i64>> {
        if let Some(mut connection) = self.held.take() {
            match self.keep.together(&mut connection, records).await {
                // The database was away since the last group, and may be back.
                Err(error) if is_away(&error) => {}
                kept => {
                    self.held = kept.is_ok().then_some(connection);
                    return kept;
                }
            }
        }
        let mut connection = self.pool.acquire().await?;
        let places = self.keep.together(&mut connection, records).await?;
        self.held = Some(connection);
        Ok(places)
    }
}

/// Whether there was nobody to answer.
const fn is_away(error: &Error) -> bool {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, WorkerCrashed};
    matches!(error, Error::Sql(Io(_) | PoolClosed | PoolTimedOut | WorkerCrashed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_waits_for_nobody_and_of_many_half_are_waited_for() {
        let (begin, mut steady) = (Instant::now(), SteadySenders::default());
        let ids: Vec<Uuid> = (0..16).map(Uuid::from_u128).collect();
        let of = |range: std::ops::Range<usize>| ids[range].iter().copied();
        assert_eq!(steady.half(begin, of(0..16)), 0);
        assert_eq!(steady.half(begin, of(0..1)), 0);
        assert_eq!(steady.half(begin, of(0..4)), 2);
        assert_eq!(steady.half(begin + QUIET_TIME / 2, of(4..16)), 8);
        // The first four have gone quiet.
        assert_eq!(steady.half(begin + QUIET_TIME, of(4..5)), 6);
        assert_eq!(steady.half(begin + 2 * QUIET_TIME, of(9..10)), 0);
    }

    #[test]
    fn who_comes_once_on_each_of_many_associations_waits_for_nobody() {
        let (begin, mut steady) = (Instant::now(), SteadySenders::default());
        for at in 0..40 {
            let time = begin + Duration::from_millis(at);
            assert_eq!(steady.half(time, std::iter::once(Uuid::now_v7())), 0);
        }
    }
}
