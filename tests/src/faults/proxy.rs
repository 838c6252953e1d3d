//! A connection that breaks as it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which way bytes go: to the one that was called, or back to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the one that was called.
    There,
    /// Back to the caller.
    Back,
}

/// What is wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// Nobody is there: what is open is closed, and what comes is closed at once.
    Down,
    /// After so many more bytes one way, the connection is cut. Then all is well again.
    Cut(Way, usize),
    /// The next bytes back never arrive, and the connection is cut in their stead. Then all is well again.
    AnswerLost,
    /// The next bytes back arrive twice. Then all is well again.
    AnswerTwice,
    /// Every piece of it waits so long, and comes in small pieces.
    Slow(Duration),
}

/// Bytes of a slow connection that come at once.
const PIECE: usize = 1_500;

/// Between one who calls and one who is called.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    target: Mutex<String>,
    fault: Mutex<Option<Break>>,
    is_down: watch::Sender<bool>,
}

/// What becomes of some bytes.
enum Fate {
    Pass,
    Wait(Duration),
    Twice,
    /// So many pass, and then it is over.
    End(usize),
}

impl Proxy {
    /// Opens one.
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: Mutex::default(),
            fault: Mutex::default(),
            is_down: watch::Sender::new(false),
        });
        let task = tokio::spawn(listen(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Where it is called.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Whom it calls from now on.
    pub(super) fn lead_to(&self, target: impl Into<String>) {
        *self.state.target.lock().unwrap() = target.into();
    }

    /// Breaks it, or mends it.
    pub(super) fn set(&self, fault: Option<Break>) {
        *self.state.fault.lock().unwrap() = fault;
        self.state.is_down.send_replace(fault == Some(Break::Down));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    while let Ok((caller, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let mut is_down = state.is_down.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                // A connection that is cut ends in an error on purpose.
                _ = pass(caller, &state) => {}
                _ = is_down.wait_for(|it| *it) => {}
            }
        });
    }
}

async fn pass(caller: TcpStream, state: &State) -> io::Result<()> {
    let target = state.target.lock().unwrap().clone();
    let called = TcpStream::connect(target).await?;
    caller.set_nodelay(true)?;
    called.set_nodelay(true)?;
    let ((from_caller, to_caller), (from_called, to_called)) =
        (caller.into_split(), called.into_split());
    tokio::try_join!(
        pump(from_caller, to_called, Way::There, state),
        pump(from_called, to_caller, Way::Back, state),
    )?;
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    state: &State,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let bytes = &buffer[..count];
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        match state.fate(way, count) {
            Fate::Pass => to.write_all(bytes).await?,
            Fate::Twice => to.write_all(&[bytes, bytes].concat()).await?,
            Fate::Wait(pause) => {
                for piece in bytes.chunks(PIECE) {
                    tokio::time::sleep(pause).await;
                    to.write_all(piece).await?;
                }
            }
            Fate::End(rest) => {
                to.write_all(&bytes[..rest]).await?;
                to.flush().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
}

impl State {
    fn fate(&self, way: Way, count: usize) -> Fate {
        let mut fault = self.fault.lock().unwrap();
        match *fault {
            Some(Break::Cut(cut, left)) if cut == way => {
                if count < left {
                    *fault = Some(Break::Cut(cut, left - count));
                    return Fate::Pass;
                }
                *fault = None;
                Fate::End(left)
            }
            Some(Break::AnswerLost) if way == Way::Back => {
                *fault = None;
                Fate::End(0)
            }
            Some(Break::AnswerTwice) if way == Way::Back => {
                *fault = None;
                Fate::Twice
            }
            Some(Break::Slow(pause)) => Fate::Wait(pause),
            _ => Fate::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each call with what it heard.
    async fn echoing() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::open().await;
        proxy.lead_to(listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        proxy
    }

    /// What comes back of `text`.
    async fn heard(proxy: &Proxy, text: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        // A proxy that is down may close before it is written to, or be reset while it is read.
        _ = stream.write_all(text).await;
        _ = stream.shutdown().await;
        let mut all = Vec::new();
        _ = stream.read_to_end(&mut all).await;
        all
    }

    #[tokio::test]
    async fn it_breaks_as_it_is_told_and_once() {
        let proxy = echoing().await;
        for (fault, expected) in [
            (None, "hello"),
            (Some(Break::Down), ""),
            (Some(Break::Cut(Way::Back, 3)), "hel"),
            (Some(Break::Cut(Way::There, 3)), ""),
            (Some(Break::AnswerLost), ""),
            (Some(Break::AnswerTwice), "hellohello"),
            (Some(Break::Slow(Duration::from_millis(5))), "hello"),
        ] {
            proxy.set(fault);
            let first = heard(&proxy, b"hello").await;
            assert!(
                first == expected.as_bytes()
                    || first == b"hel" && fault == Some(Break::Cut(Way::There, 3)),
                "{fault:?}: {first:?}"
            );
            if !matches!(fault, Some(Break::Down | Break::Slow(_))) {
                assert_eq!(heard(&proxy, b"again").await, b"again", "{fault:?}");
            }
        }
    }
}
