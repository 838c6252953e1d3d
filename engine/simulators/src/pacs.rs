//! A simulated PACS: a Storage SCP that also asks for and answers storage commitment.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use contracts::{
    CommitmentReport, CommitmentReporter as _, CommitmentRequest, CommitmentResult,
    FailedReference, FailureReason, Live, SendError,
};
use dimse::{Config, Network, Peer, Reporter, Timers};
use domain::AeTitle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::inbox::{Inbox, ReceivedInstance};

/// A PACS on a port of its own. It ends when it is dropped.
pub struct Pacs {
    inbox: Arc<Inbox>,
    address: SocketAddr,
    task: JoinHandle<()>,
    _closing: watch::Sender<bool>,
}

impl Pacs {
    /// Opens a PACS with this AE title that accepts everything from this machine, and stores it in
    /// `folder`.
    ///
    /// # Errors
    ///
    /// Fails if the port or the folder is not available.
    pub async fn open(folder: &Path, ae_title: AeTitle, listen: SocketAddr) -> io::Result<Self> {
        let inbox = Inbox::open(folder)?;
        let config = Config {
            listen,
            ae_title,
            peers: Arc::new(Live::new(vec![Peer {
                ae_title: None,
                networks: Network::loopback(),
                associations_max: None,
            }])),
            associations_max: 64,
            associations_per_peer_max: 64,
            pdu_bytes_max: 131_072,
            accept_unknown_storage: false,
            association_bytes_max: 8 << 20,
            timers: Timers::default(),
        };
        let listener = dimse::Listener::bind(config, dimse::Intakes::of(&inbox)).await?;
        let address = listener.address()?;
        let (closing, closed) = watch::channel(false);
        let task = tokio::spawn(listener.listen(closed));
        Ok(Self { inbox, address, task, _closing: closing })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers all requests for storage commitment on associations to the engine at `engine`. It
    /// commits what it has received, except `lost`. Returns how many requests were answered.
    ///
    /// # Errors
    ///
    /// Fails if the engine does not accept a result.
    pub async fn commit(&self, engine: &str, lost: Option<&str>) -> Result<usize, SendError> {
        let requests = self.inbox.take_requests();
        for request in &requests {
            let report = CommitmentReport {
                peer: request.calling_ae.clone(),
                address: request.address.clone(),
                called_ae: request.called_ae.clone(),
                result: self.result(request, lost),
                attempt: 1,
            };
            let addresses = request.calling_ae.parse().map(|it| (it, engine.to_owned()));
            Reporter::new(addresses.into_iter().collect()).report(&report).await?;
        }
        Ok(requests.len())
    }

    fn result(&self, request: &CommitmentRequest, lost: Option<&str>) -> CommitmentResult {
        let received = self.received();
        let mut committed = Vec::new();
        let mut failed = Vec::new();
        for reference in request.references.iter().cloned() {
            let is_known = received.iter().any(|it| it.sop_instance == reference.sop_instance);
            if is_known && lost != Some(reference.sop_instance.as_str()) {
                committed.push(reference);
            } else {
                failed.push(FailedReference { reference, reason: FailureReason::NO_SUCH_OBJECT });
            }
        }
        CommitmentResult { transaction: request.transaction.clone(), committed, failed }
    }

    /// The results of its own requests for storage commitment, in order of arrival.
    pub fn answers(&self) -> Vec<CommitmentResult> {
        self.inbox.results()
    }

    /// Accepts `after` more instances, and has no room for the next `count`.
    pub fn refuse(&self, after: usize, count: usize) {
        self.inbox.refuse(after, count);
    }

    /// The instances that it received so far, in order of arrival.
    pub fn received(&self) -> Vec<ReceivedInstance> {
        self.inbox.instances()
    }
}

impl Drop for Pacs {
    fn drop(&mut self) {
        self.task.abort();
    }
}
