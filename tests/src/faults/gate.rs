//! A proxy between the engine and PostgreSQL that counts commits and kills the engine at one.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream, tcp, unix};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::processes::signal;

/// On which side of a commit the engine is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The commit does not reach the database.
    Before,
    /// The database has committed, and its response does not reach the engine.
    After,
}

/// The commit at which the engine, a process id, is to be killed.
#[derive(Clone, Copy)]
struct KillPoint {
    commit: usize,
    side: Side,
    engine: i32,
}

/// A listener to which the engine connects as to its database server.
pub(super) struct Gate {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    socket: PathBuf,
    commits: AtomicUsize,
    kill_point: Mutex<Option<KillPoint>>,
    is_reached: watch::Sender<bool>,
}

impl Gate {
    /// Opens a gate to the server that listens on a socket.
    pub(super) async fn open(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            socket: socket.to_owned(),
            commits: AtomicUsize::new(0),
            kill_point: Mutex::default(),
            is_reached: watch::Sender::new(false),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((engine, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // When the engine is killed, its connections end with an error, which is expected.
                tokio::spawn(async move { relay(engine, &state).await });
            }
        });
        Self { port, state, task }
    }

    /// The TCP port on localhost.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Counts commits from zero, and kills `engine` at `commit`, a number and a side, if there is
    /// one.
    pub(super) fn arm(&self, commit: Option<(usize, Side)>, engine: i32) {
        self.state.is_reached.send_replace(false);
        self.state.commits.store(0, Ordering::SeqCst);
        *self.state.kill_point.lock().unwrap() =
            commit.map(|(commit, side)| KillPoint { commit, side, engine });
    }

    /// Number of commits since the gate was armed.
    pub(super) fn commits(&self) -> usize {
        self.state.commits.load(Ordering::SeqCst)
    }

    /// Waits until the gate has killed the engine.
    pub(super) async fn reached(&self) {
        _ = self.state.is_reached.subscribe().wait_for(|it| *it).await;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// Counts one more commit. Returns the kill point if it is this commit.
    fn count(&self) -> Option<KillPoint> {
        let number = 1 + self.commits.fetch_add(1, Ordering::SeqCst);
        let mut point = self.kill_point.lock().unwrap();
        if point.is_some_and(|it| it.commit == number) { point.take() } else { None }
    }

    /// Kills the engine and returns the error with which the connection ends.
    fn kill(&self, point: KillPoint) -> io::Error {
        signal(&[point.engine], Signal::KILL);
        self.is_reached.send_replace(true);
        io::ErrorKind::ConnectionAborted.into()
    }
}

/// Relays one connection in both directions.
async fn relay(engine: TcpStream, state: &State) -> io::Result<()> {
    let database = UnixStream::connect(&state.socket).await?;
    engine.set_nodelay(true)?;
    let (from_engine, to_engine) = engine.into_split();
    let (from_database, to_database) = database.into_split();
    let connection = Connection { pending_kill: Mutex::new(None), is_idle: AtomicBool::new(true) };
    tokio::try_join!(
        relay_requests(from_engine, to_database, &connection, state),
        relay_responses(from_database, to_engine, &connection, state),
    )?;
    Ok(())
}

/// The state that both directions of a connection share.
struct Connection {
    /// The kill that follows the next response, after a commit was passed on.
    pending_kill: Mutex<Option<KillPoint>>,
    /// Whether the database is outside of a transaction, so that a statement commits on its own.
    is_idle: AtomicBool,
}

/// `ReadyForQuery` outside of a transaction.
const READY_IDLE: [u8; 6] = [b'Z', 0, 0, 0, 5, b'I'];

/// `ReadyForQuery` within a transaction.
const READY_IN_TRANSACTION: [u8; 6] = [b'Z', 0, 0, 0, 5, b'T'];

/// The names of the prepared statements of a connection that write.
#[derive(Default)]
struct WritingStatements(BTreeSet<Vec<u8>>);

impl WritingStatements {
    /// Records the name in a Parse message of a writing statement. Returns whether the message is a
    /// Bind of such a statement.
    fn is_executed_by(&mut self, message: &[u8]) -> bool {
        let mut texts = message.get(5..).unwrap_or_default().split(|it| *it == 0);
        let (Some(first), Some(second)) = (texts.next(), texts.next()) else { return false };
        match message.first() {
            Some(b'P') => {
                let beginnings = ["insert", "update", "delete", "select instance_batch_insert"];
                if beginnings.iter().any(|it| second.starts_with(it.as_bytes())) {
                    self.0.insert(first.to_vec());
                }
                false
            }
            Some(b'B') => self.0.contains(second),
            _ => false,
        }
    }
}

/// Relays messages to the database, and counts those that commit.
async fn relay_requests(
    mut from: tcp::OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
    connection: &Connection,
    state: &State,
) -> io::Result<()> {
    let mut received = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    let mut has_started = false;
    let mut statements = WritingStatements::default();
    loop {
        while let Some(length) = message_length(&received, has_started) {
            let message: Vec<u8> = received.drain(..length).collect();
            // The requests that may precede the startup message, such as for TLS, have 8 bytes.
            has_started |= message.len() > 8;
            let writes = statements.is_executed_by(&message);
            let commits_itself = writes && connection.is_idle.load(Ordering::SeqCst);
            let is_commit = commits_itself || message.ends_with(b"COMMIT\0");
            let point = if is_commit { state.count() } else { None };
            match point {
                Some(point) if point.side == Side::Before => return Err(state.kill(point)),
                Some(point) => *connection.pending_kill.lock().unwrap() = Some(point),
                None => {}
            }
            to.write_all(&message).await?;
        }
        match from.read(&mut chunk).await? {
            0 => return to.shutdown().await,
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The length of the first message, if the message is complete (PostgreSQL, message formats). The
/// startup message has no type byte before its length.
fn message_length(received: &[u8], has_started: bool) -> Option<usize> {
    let type_bytes = usize::from(has_started);
    let length = received.get(type_bytes..)?.first_chunk::<4>()?;
    let length = type_bytes + usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (received.len() >= length).then_some(length)
}

/// Relays messages to the engine, and kills the engine instead of passing on the response to the
/// commit of a kill point.
async fn relay_responses(
    mut from: unix::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    connection: &Connection,
    state: &State,
) -> io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut chunk).await?;
        let received = &chunk[..count];
        let is_idle = received.ends_with(&READY_IDLE);
        if is_idle || received.ends_with(&READY_IN_TRANSACTION) {
            connection.is_idle.store(is_idle, Ordering::SeqCst);
        }
        let point = is_idle.then(|| connection.pending_kill.lock().unwrap().take()).flatten();
        if let Some(point) = point {
            return Err(state.kill(point));
        }
        match count {
            0 => return to.shutdown().await,
            _ => to.write_all(&chunk[..count]).await?,
        }
    }
}
