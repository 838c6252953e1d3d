//! A TCP proxy that injects faults into the connections through it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Response,
}

/// A fault of the connections through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionFault {
    /// Open connections are closed, and new ones are closed at once.
    Down,
    /// A connection is cut after this number of bytes in one direction. Then the fault ends.
    Cut(Direction, usize),
    /// A connection is cut instead of passing on the next bytes to the client. Then the fault ends.
    AnswerLost,
    /// The next bytes to the client are sent twice. Then the fault ends.
    AnswerTwice,
    /// Bytes are passed on in small pieces with this delay before each.
    Slow(Duration),
}

/// Size of the pieces on a slow connection.
const PIECE: usize = 1_500;

/// A proxy with its own listener, through which clients reach a server.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    server: Mutex<String>,
    fault: Mutex<Option<ConnectionFault>>,
    is_down: watch::Sender<bool>,
}

/// What the proxy does with a block of bytes.
enum Fate {
    Pass,
    Delay(Duration),
    Repeat,
    /// Passes on this number of bytes, then closes the connection.
    Cut(usize),
}

impl Proxy {
    /// Opens a proxy without a server.
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            server: Mutex::default(),
            fault: Mutex::default(),
            is_down: watch::Sender::new(false),
        });
        let task = tokio::spawn(listen(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// The address for clients.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sets the server of all new connections.
    pub(super) fn lead_to(&self, server: impl Into<String>) {
        *self.state.server.lock().unwrap() = server.into();
    }

    /// Injects a fault, or ends it.
    pub(super) fn set(&self, fault: Option<ConnectionFault>) {
        *self.state.fault.lock().unwrap() = fault;
        self.state.is_down.send_replace(fault == Some(ConnectionFault::Down));
    }

    /// Cuts a connection after this number of bytes from the client.
    pub(super) fn cut_request(&self, bytes: usize) {
        self.set(Some(ConnectionFault::Cut(Direction::Request, bytes)));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let mut is_down = state.is_down.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                // A connection that is cut ends with an error, which is expected.
                _ = relay(client, &state) => {}
                _ = is_down.wait_for(|it| *it) => {}
            }
        });
    }
}

async fn relay(client: TcpStream, state: &State) -> io::Result<()> {
    let address = state.server.lock().unwrap().clone();
    let server = TcpStream::connect(address).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        relay_direction(from_client, to_server, Direction::Request, state),
        relay_direction(from_server, to_client, Direction::Response, state),
    )?;
    Ok(())
}

async fn relay_direction(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    state: &State,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let bytes = &buffer[..count];
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        match state.fate(direction, count) {
            Fate::Pass => to.write_all(bytes).await?,
            Fate::Repeat => to.write_all(&[bytes, bytes].concat()).await?,
            Fate::Delay(delay) => {
                for piece in bytes.chunks(PIECE) {
                    tokio::time::sleep(delay).await;
                    to.write_all(piece).await?;
                }
            }
            Fate::Cut(rest) => {
                to.write_all(&bytes[..rest]).await?;
                to.flush().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
}

impl State {
    /// Decides about a block of `count` bytes, and ends a fault that happens once.
    fn fate(&self, direction: Direction, count: usize) -> Fate {
        let mut fault = self.fault.lock().unwrap();
        match *fault {
            Some(ConnectionFault::Cut(cut, remaining)) if cut == direction => {
                if count < remaining {
                    *fault = Some(ConnectionFault::Cut(cut, remaining - count));
                    return Fate::Pass;
                }
                *fault = None;
                Fate::Cut(remaining)
            }
            Some(ConnectionFault::AnswerLost) if direction == Direction::Response => {
                *fault = None;
                Fate::Cut(0)
            }
            Some(ConnectionFault::AnswerTwice) if direction == Direction::Response => {
                *fault = None;
                Fate::Repeat
            }
            Some(ConnectionFault::Slow(delay)) => Fate::Delay(delay),
            _ => Fate::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy to a server that sends back what it receives.
    async fn echo_proxy() -> Proxy {
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

    /// The echo of `text`, as far as it arrives.
    async fn echo(proxy: &Proxy, text: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        // A proxy that is down may close the connection before the write, or during the read.
        _ = stream.write_all(text).await;
        _ = stream.shutdown().await;
        let mut received = Vec::new();
        _ = stream.read_to_end(&mut received).await;
        received
    }

    #[tokio::test]
    async fn each_fault_has_its_effect_and_a_single_fault_ends() {
        let proxy = echo_proxy().await;
        for (fault, expected) in [
            (None, "hello"),
            (Some(ConnectionFault::Down), ""),
            (Some(ConnectionFault::Cut(Direction::Response, 3)), "hel"),
            (Some(ConnectionFault::Cut(Direction::Request, 3)), ""),
            (Some(ConnectionFault::AnswerLost), ""),
            (Some(ConnectionFault::AnswerTwice), "hellohello"),
            (Some(ConnectionFault::Slow(Duration::from_millis(5))), "hello"),
        ] {
            proxy.set(fault);
            let first = echo(&proxy, b"hello").await;
            assert!(
                first == expected.as_bytes()
                    || first == b"hel"
                        && fault == Some(ConnectionFault::Cut(Direction::Request, 3)),
                "{fault:?}: {first:?}"
            );
            if !matches!(fault, Some(ConnectionFault::Down | ConnectionFault::Slow(_))) {
                assert_eq!(echo(&proxy, b"again").await, b"again", "{fault:?}");
            }
        }
    }
}
