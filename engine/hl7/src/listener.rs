//! The door for HL7: accepts connections and gives each a task of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::{EventSink, MessageIntake};
use domain::ErrorChain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{Instrument as _, info_span, warn};

use crate::connection::{Connection, Timers};
use crate::receiver::Rules;

/// How often a connection beyond the limit looks for a place, and how long it waits between.
const PLACE_TRIES: u32 = 40;
const PLACE_WAIT: Duration = Duration::from_millis(25);

/// Most connections that wait for a place at once.
const WAITING_MAX: usize = 64;

/// How the HL7 listener behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Which messages are taken.
    pub rules: Arc<Rules>,
    /// Who may connect.
    pub senders: Sender,
    /// Most connections of one address at once.
    pub connections_per_peer_max: usize,
    /// Most connections at once.
    pub connections_max: usize,
    /// How long to wait for what.
    pub timers: Timers,
}

/// Whether an address may connect.
#[derive(Clone)]
pub struct Sender(pub Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender(..)")
    }
}

/// An open door.
pub struct Listener {
    socket: TcpListener,
    config: Config,
    messages: Arc<dyn MessageIntake>,
    events: Arc<dyn EventSink>,
    places: Arc<Places>,
}

impl Listener {
    /// Opens the door.
    ///
    /// # Errors
    ///
    /// Fails if the address is taken or not ours.
    pub async fn bind(
        config: Config,
        messages: Arc<dyn MessageIntake>,
        events: Arc<dyn EventSink>,
    ) -> std::io::Result<Self> {
        let socket = TcpListener::bind(config.listen).await?;
        let places = Places {
            connections: Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            per_peer_max: config.connections_per_peer_max,
            max: config.connections_max,
        };
        Ok(Self { socket, config, messages, events, places: Arc::new(places) })
    }

    /// Where it is.
    ///
    /// # Errors
    ///
    /// Fails if the system does not know.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Lets peers in until `closing` says so.
    pub async fn listen(self, mut closing: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = closing.wait_for(|it| *it) => return,
            };
            match accepted {
                Ok((stream, address)) => self.receive(stream, address),
                Err(error) => {
                    warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn receive(&self, stream: TcpStream, address: SocketAddr) {
        if !(self.config.senders.0)(address.ip()) {
            warn!(peer = %address, "a connection from outside the allowed networks was closed");
            return;
        }
        // Without it each answer waits for the peer's delayed acknowledgement.
        _ = stream.set_nodelay(true);
        let connection = Connection::new(
            address.ip().to_string(),
            Arc::clone(&self.config.rules),
            self.config.timers,
            Arc::clone(&self.messages),
            Arc::clone(&self.events),
        );
        let places = Arc::clone(&self.places);
        let span = info_span!("connection", peer = %address);
        let served = async move {
            let Some(place) = places.wait_for_one(address.ip()).await else {
                warn!("a connection beyond the limit was closed");
                return;
            };
            if let Err(error) = connection.serve(stream).await {
                warn!(error = %ErrorChain(&error), "connection ended early");
            }
            drop(place);
        };
        tokio::spawn(served.instrument(span));
    }
}

/// The places for connections, all and of each address.
struct Places {
    connections: Mutex<HashMap<IpAddr, usize>>,
    waiting: Semaphore,
    per_peer_max: usize,
    max: usize,
}

impl Places {
    /// A place, at once or after a short wait: a peer with a connection for each message opens the
    /// next before the end of the last was read here.
    async fn wait_for_one(self: Arc<Self>, address: IpAddr) -> Option<Place> {
        if let Some(place) = self.take_one(address) {
            return Some(place);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        for _ in 0..PLACE_TRIES {
            tokio::time::sleep(PLACE_WAIT).await;
            if let Some(place) = self.take_one(address) {
                return Some(place);
            }
        }
        None
    }

    fn take_one(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = connections.values().sum();
        let of_peer = connections.get(&address).copied().unwrap_or_default();
        if total >= self.max || of_peer >= self.per_peer_max {
            return None;
        }
        connections.insert(address, of_peer + 1);
        drop(connections);
        Some(Place { places: Arc::clone(self), address })
    }
}

/// A place among the connections, given back when dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections =
            self.places.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                connections.remove(&self.address);
            }
        }
    }
}
