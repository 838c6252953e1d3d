//! A simulated EHR: an MLLP listener that acknowledges every message.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use contracts::{EventSink, Live, MessageIntake};
use dimse::Network;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::inbox::Inbox;

/// An EHR on a port of its own. It ends when it is dropped.
pub struct Ehr {
    inbox: Arc<Inbox>,
    address: SocketAddr,
    task: JoinHandle<()>,
    _closing: watch::Sender<bool>,
}

impl Ehr {
    /// Opens an EHR that accepts every message from this machine.
    ///
    /// # Errors
    ///
    /// Fails if the port or the folder is not available.
    pub async fn open(folder: &Path, listen: SocketAddr) -> io::Result<Self> {
        let inbox = Inbox::open(folder)?;
        let config = hl7::Config {
            listen,
            rules: Arc::default(),
            networks: Arc::new(Live::new(Network::loopback())),
            connections_per_peer_max: 64,
            connections_max: 64,
            timers: hl7::connection::Timers::default(),
        };
        let messages: Arc<dyn MessageIntake> = Arc::<Inbox>::clone(&inbox);
        let events: Arc<dyn EventSink> = Arc::<Inbox>::clone(&inbox);
        let listener = hl7::Listener::bind(config, messages, events).await?;
        let address = listener.address()?;
        let (closing, closed) = watch::channel(false);
        let task = tokio::spawn(listener.listen(closed));
        Ok(Self { inbox, address, task, _closing: closing })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts `after` more messages, and has no room for the next `count`.
    pub fn refuse(&self, after: usize, count: usize) {
        self.inbox.refuse(after, count);
    }

    /// The messages that it received so far, in order of arrival.
    pub fn received(&self) -> Vec<String> {
        let messages = self.inbox.messages();
        messages.iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
    }

    /// The messages that it received so far, as bytes.
    pub fn received_raw(&self) -> Vec<Vec<u8>> {
        self.inbox.messages()
    }
}

impl Drop for Ehr {
    fn drop(&mut self) {
        self.task.abort();
    }
}
