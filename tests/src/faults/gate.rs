//! Between the engine and its database: counts what is committed, and kills the engine at one of them.

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
    /// The database never hears of it.
    Before,
    /// The database has done it, and the engine never hears of that.
    After,
}

/// What it waits for.
#[derive(Clone, Copy)]
struct Point {
    commit: usize,
    side: Side,
    engine: i32,
}

/// A database server, as the engine sees it.
pub(super) struct Gate {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    socket: PathBuf,
    commits: AtomicUsize,
    point: Mutex<Option<Point>>,
    is_reached: watch::Sender<bool>,
}

impl Gate {
    /// Opens one before the server that listens at a socket.
    pub(super) async fn open(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            socket: socket.to_owned(),
            commits: AtomicUsize::new(0),
            point: Mutex::default(),
            is_reached: watch::Sender::new(false),
        });
        let kept = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((engine, _)) = listener.accept().await {
                let state = Arc::clone(&kept);
                // A connection of an engine that is killed ends in an error on purpose.
                tokio::spawn(async move { pass(engine, &state).await });
            }
        });
        Self { port, state, task }
    }

    /// Where it listens on this machine.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Counts from nothing, and kills `engine` beside commit number `commit`, if one is given.
    pub(super) fn arm(&self, point: Option<(usize, Side)>, engine: i32) {
        self.state.is_reached.send_replace(false);
        self.state.commits.store(0, Ordering::SeqCst);
        *self.state.point.lock().unwrap() =
            point.map(|(commit, side)| Point { commit, side, engine });
    }

    /// How many commits there were.
    pub(super) fn commits(&self) -> usize {
        self.state.commits.load(Ordering::SeqCst)
    }

    /// Waits until the engine was killed.
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
    /// Takes in one more commit. Gives the point, if it is this one.
    fn count(&self) -> Option<Point> {
        let number = 1 + self.commits.fetch_add(1, Ordering::SeqCst);
        let mut point = self.point.lock().unwrap();
        if point.is_some_and(|it| it.commit == number) { point.take() } else { None }
    }

    fn kill(&self, point: Point) -> io::Error {
        signal(&[point.engine], Signal::KILL);
        self.is_reached.send_replace(true);
        io::ErrorKind::ConnectionAborted.into()
    }
}

async fn pass(engine: TcpStream, state: &State) -> io::Result<()> {
    let database = UnixStream::connect(&state.socket).await?;
    engine.set_nodelay(true)?;
    let ((from_engine, to_engine), (from_database, to_database)) =
        (engine.into_split(), database.into_split());
    let wire = Wire { last: Mutex::new(None), is_idle: AtomicBool::new(true) };
    tokio::try_join!(
        there(from_engine, to_database, &wire, state),
        back(from_database, to_engine, &wire, state),
    )?;
    Ok(())
}

/// What one connection is at.
struct Wire {
    /// What is to happen when the next answer comes.
    last: Mutex<Option<Point>>,
    /// Whether the database is in no transaction: what is asked of it now commits by itself.
    is_idle: AtomicBool,
}

/// What a database says when it is done, and in no transaction (`ReadyForQuery`).
const IDLE: [u8; 6] = [b'Z', 0, 0, 0, 5, b'I'];

/// The same, inside of a transaction.
const WITHIN: [u8; 6] = [b'Z', 0, 0, 0, 5, b'T'];

/// Statements of a connection that change something and were prepared under a name.
#[derive(Default)]
struct Changes(BTreeSet<Vec<u8>>);

impl Changes {
    /// Takes in a message, and says whether it carries out such a statement (Parse, Bind).
    fn carries_out(&mut self, message: &[u8]) -> bool {
        let mut texts = message.get(5..).unwrap_or_default().split(|it| *it == 0);
        let (Some(first), Some(second)) = (texts.next(), texts.next()) else { return false };
        match message.first() {
            Some(b'P') => {
                let changes = ["insert", "update", "delete", "select instance_batch_insert"];
                if changes.iter().any(|it| second.starts_with(it.as_bytes())) {
                    self.0.insert(first.to_vec());
                }
                false
            }
            Some(b'B') => self.0.contains(second),
            _ => false,
        }
    }
}

async fn there(
    mut from: tcp::OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
    wire: &Wire,
    state: &State,
) -> io::Result<()> {
    let (mut heard, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
    let (mut has_begun, mut changes) = (false, Changes::default());
    loop {
        while let Some(length) = message(&heard, has_begun) {
            let one: Vec<u8> = heard.drain(..length).collect();
            // Requests before the beginning (for TLS) have a code of their own.
            has_begun |= one.len() > 8;
            let commits_itself = changes.carries_out(&one) && wire.is_idle.load(Ordering::SeqCst);
            let is_commit = commits_itself || one.ends_with(b"COMMIT\0");
            let point = if is_commit { state.count() } else { None };
            match point {
                Some(point) if point.side == Side::Before => return Err(state.kill(point)),
                Some(point) => *wire.last.lock().unwrap() = Some(point),
                None => {}
            }
            to.write_all(&one).await?;
        }
        match from.read(&mut piece).await? {
            0 => return to.shutdown().await,
            count => heard.extend_from_slice(&piece[..count]),
        }
    }
}

/// The length of the first message, if it is there as a whole (PostgreSQL, message formats). The first of all
/// has no kind before its length.
fn message(heard: &[u8], has_begun: bool) -> Option<usize> {
    let kind = usize::from(has_begun);
    let length = heard.get(kind..)?.first_chunk::<4>()?;
    let length = kind + usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (heard.len() >= length).then_some(length)
}

async fn back(
    mut from: unix::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    wire: &Wire,
    state: &State,
) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut piece).await?;
        let said = &piece[..count];
        let (is_done, is_within) = (said.ends_with(&IDLE), said.ends_with(&WITHIN));
        if is_done || is_within {
            wire.is_idle.store(is_done, Ordering::SeqCst);
        }
        if let Some(point) = is_done.then(|| wire.last.lock().unwrap().take()).flatten() {
            return Err(state.kill(point));
        }
        match count {
            0 => return to.shutdown().await,
            _ => to.write_all(&piece[..count]).await?,
        }
    }
}
