//! Listens for HL7 over MLLP: accepts connections and serves each in its own task.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::{EventSink, MessageIntake};
use domain::ErrorChain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{Instrument as _, info_span, warn};

use crate::config::Config;
use crate::connection::Connection;

/// How often a connection beyond the limit tries to get a permit.
const PERMIT_ATTEMPTS: u32 = 40;

/// How long it waits between attempts.
const PERMIT_WAIT: Duration = Duration::from_millis(25);

/// How long to wait when a connection cannot be accepted, mostly for lack of file handles.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Upper bound of the connections that wait for a permit at once.
const WAITING_MAX: usize = 64;

/// A listener for MLLP connections.
pub struct Listener {
    socket: TcpListener,
    config: Config,
    messages: Arc<dyn MessageIntake>,
    events: Arc<dyn EventSink>,
    permits: Arc<Permits>,
}

impl Listener {
    /// Binds the address of `config`.
    ///
    /// # Errors
    ///
    /// Fails if the address is in use or does not belong to this machine.
    pub async fn bind(
        config: Config,
        messages: Arc<dyn MessageIntake>,
        events: Arc<dyn EventSink>,
    ) -> std::io::Result<Self> {
        let socket = TcpListener::bind(config.listen).await?;
        let permits = Permits {
            connections: Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            per_peer_max: config.connections_per_peer_max,
            max: config.connections_max,
        };
        Ok(Self { socket, config, messages, events, permits: Arc::new(permits) })
    }

    /// The address that is listened on, with the port that the system chose if it was zero.
    ///
    /// # Errors
    ///
    /// Fails if the system does not know the address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections until `closing` becomes true. Open ones go on in their tasks.
    pub async fn listen(self, mut closing: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = closing.wait_for(|is_closing| *is_closing) => return,
            };
            match accepted {
                Ok((stream, address)) => self.spawn(stream, address),
                Err(error) => {
                    warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, address: SocketAddr) {
        let networks = self.config.networks.get();
        if !networks.iter().any(|network| network.contains(address.ip())) {
            warn!(peer = %address, "a connection from outside the allowed networks was closed");
            return;
        }
        // Without it each answer waits for the delayed acknowledgement of the peer.
        _ = stream.set_nodelay(true);
        let connection = Connection::new(
            address.ip().to_string(),
            Arc::clone(&self.config.rules),
            self.config.timers,
            Arc::clone(&self.messages),
            Arc::clone(&self.events),
        );
        let permits = Arc::clone(&self.permits);
        let span = info_span!("connection", peer = %address);
        let served = async move {
            let Some(permit) = permits.acquire(address.ip()).await else {
                warn!("a connection beyond the limit was closed");
                return;
            };
            if let Err(error) = connection.serve(stream).await {
                warn!(error = %ErrorChain(&error), "connection ended early");
            }
            drop(permit);
        };
        tokio::spawn(served.instrument(span));
    }
}

/// Limits the connections: all, and those of one network address.
struct Permits {
    connections: Mutex<HashMap<IpAddr, usize>>,
    waiting: Semaphore,
    per_peer_max: usize,
    max: usize,
}

impl Permits {
    /// Waits shortly for a permit: a peer that opens a connection for each message opens the next
    /// one before the end of the last was read here.
    async fn acquire(self: Arc<Self>, address: IpAddr) -> Option<Permit> {
        if let Some(permit) = self.try_acquire(address) {
            return Some(permit);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        for _ in 0..PERMIT_ATTEMPTS {
            tokio::time::sleep(PERMIT_WAIT).await;
            if let Some(permit) = self.try_acquire(address) {
                return Some(permit);
            }
        }
        None
    }

    fn try_acquire(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = connections.values().sum();
        let of_peer = connections.get(&address).copied().unwrap_or_default();
        if total >= self.max || of_peer >= self.per_peer_max {
            return None;
        }
        connections.insert(address, of_peer + 1);
        drop(connections);
        Some(Permit { permits: Arc::clone(self), address })
    }
}

/// Permits one connection, until it is dropped.
struct Permit {
    permits: Arc<Permits>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut connections =
            self.permits.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                connections.remove(&self.address);
            }
        }
    }
}
