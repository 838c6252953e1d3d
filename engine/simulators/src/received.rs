use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use archive::DiskArchive;
use async_trait::async_trait;
use contracts::{
    Admission, Answers, Archive, CommitmentIntake, CommitmentReport, CommitmentReporter as _,
    CommitmentRequest, CommitmentResult, EventSink, FailureReason, InstanceArrival, InstanceIntake,
    InstanceOutcome, Live, MessageArrival, MessageIntake, Quarantined, Refusal, RefusalReason,
    SendError,
};
use dimse::{Config, Network, Peer, Reporter, Timers};
use domain::{AeTitle, Event};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// An instance a PACS was sent.
#[derive(Clone, Debug)]
pub struct ReceivedInstance {
    /// Its kind.
    pub sop_class: String,
    /// Its name.
    pub sop_instance: String,
    /// Its file.
    pub path: PathBuf,
}

/// Keeps what arrives, and asks nothing of it.
struct Shelf {
    archive: Arc<dyn Archive>,
    instances: Mutex<Vec<ReceivedInstance>>,
    messages: Mutex<Vec<Vec<u8>>>,
    /// What it was asked to commit and has not answered, by transaction; answers it was given.
    asked: Mutex<Vec<CommitmentRequest>>,
    answers: Mutex<Vec<CommitmentResult>>,
    /// It has room for so many more things, and then for so many not.
    room: Mutex<[usize; 2]>,
}

impl Shelf {
    fn open(folder: &Path) -> io::Result<Arc<Self>> {
        let archive: Arc<dyn Archive> = Arc::new(DiskArchive::open(folder)?);
        Ok(Arc::new(Self {
            archive,
            instances: Mutex::default(),
            messages: Mutex::default(),
            asked: Mutex::default(),
            answers: Mutex::default(),
            room: Mutex::default(),
        }))
    }

    fn has_room(&self) -> Result<(), Refusal> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *room {
            [0, 0] => Ok(()),
            [0, not] => {
                *not -= 1;
                Err(Refusal::new(RefusalReason::OutOfResources, "no room"))
            }
            [some, _] => {
                *some -= 1;
                Ok(())
            }
        }
    }

    fn refuse(&self, after: usize, count: usize) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = [after, count];
    }
}

impl Admission for Shelf {
    fn check_open(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

#[async_trait]
impl InstanceIntake for Shelf {
    fn archive(&self) -> &Arc<dyn Archive> {
        &self.archive
    }

    async fn accept_instance(
        &self,
        arrival: InstanceArrival,
        file: Quarantined,
    ) -> Result<InstanceOutcome, Refusal> {
        self.has_room()?;
        let path = self.archive.path_of(&file.sha256);
        let full =
            |error: io::Error| Refusal::new(RefusalReason::OutOfResources, error.to_string());
        self.archive.keep(file).await.map_err(full)?;
        let (sop_class, sop_instance) = (arrival.sop_class, arrival.sop_instance);
        let received = ReceivedInstance { sop_class, sop_instance, path };
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).push(received);
        Ok(InstanceOutcome::New)
    }
}

#[async_trait]
impl MessageIntake for Shelf {
    async fn accept_message(&self, arrival: MessageArrival) -> Result<Answers, Refusal> {
        self.has_room()?;
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(arrival.raw);
        Ok(arrival.answers)
    }
}

#[async_trait]
impl CommitmentIntake for Shelf {
    async fn accept_commitment_request(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        Ok(())
    }

    async fn accept_commitment_result(
        &self,
        result: CommitmentResult,
        _: &str,
        _: &str,
    ) -> Result<(), Refusal> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        Ok(())
    }
}

#[async_trait]
impl EventSink for Shelf {
    async fn record_event(&self, _: Event) {}
}

/// A PACS on a port of its own.
pub struct Pacs {
    shelf: Arc<Shelf>,
    address: SocketAddr,
    task: JoinHandle<()>,
    _closing: watch::Sender<bool>,
}

impl Pacs {
    /// Opens a PACS that calls itself `ae_title`, takes everything from this machine, and keeps it
    /// in `folder`.
    ///
    /// # Errors
    ///
    /// Fails if the port or the folder cannot be had.
    pub async fn open(folder: &Path, ae_title: AeTitle, listen: SocketAddr) -> io::Result<Self> {
        let shelf = Shelf::open(folder)?;
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
            timers: Timers::default(),
        };
        let listener = dimse::Listener::bind(config, dimse::Intakes::of(&shelf)).await?;
        let address = listener.address()?;
        let (closing, closed) = watch::channel(false);
        let task = tokio::spawn(listener.listen(closed));
        Ok(Self { shelf, address, task, _closing: closing })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the requests for storage commitment it has had, calling the engine at `engine`: what
    /// it has is committed, but for `lost`. Gives how many were answered.
    ///
    /// # Errors
    ///
    /// Fails if the engine does not take an answer.
    pub async fn commit(&self, engine: &str, lost: Option<&str>) -> Result<usize, SendError> {
        let asked: Vec<CommitmentRequest> =
            self.shelf.asked.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let known: Vec<String> = self.received().into_iter().map(|it| it.sop_instance).collect();
        for request in &asked {
            let (committed, failed): (Vec<_>, Vec<_>) =
                request.references.iter().cloned().partition(|it| {
                    known.contains(&it.sop_instance) && lost != Some(it.sop_instance.as_str())
                });
            let reason = |it| (it, FailureReason::NO_SUCH_OBJECT);
            let failed = failed.into_iter().map(reason).collect();
            let transaction = request.transaction.clone();
            let report = CommitmentReport {
                peer: request.calling_ae.clone(),
                address: request.address.clone(),
                called_ae: request.called_ae.clone(),
                result: CommitmentResult { transaction, committed, failed },
                attempt: 1,
            };
            let addresses = request.calling_ae.parse().map(|it| (it, engine.to_owned()));
            Reporter::new(addresses.into_iter().collect()).report(&report).await?;
        }
        Ok(asked.len())
    }

    /// Answers to its own requests for storage commitment, in order.
    pub fn answers(&self) -> Vec<CommitmentResult> {
        self.shelf.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes so many instances more, and has no room for the next `count`.
    pub fn refuse(&self, after: usize, count: usize) {
        self.shelf.refuse(after, count);
    }

    /// What it was sent so far, in order.
    pub fn received(&self) -> Vec<ReceivedInstance> {
        self.shelf.instances.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Pacs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An EHR on a port of its own.
pub struct Ehr {
    shelf: Arc<Shelf>,
    address: SocketAddr,
    task: JoinHandle<()>,
    _closing: watch::Sender<bool>,
}

impl Ehr {
    /// Opens an EHR that takes every message from this machine.
    ///
    /// # Errors
    ///
    /// Fails if the port or the folder cannot be had.
    pub async fn open(folder: &Path, listen: SocketAddr) -> io::Result<Self> {
        let shelf = Shelf::open(folder)?;
        let config = hl7::Config {
            listen,
            rules: Arc::default(),
            networks: Arc::new(Live::new(Network::loopback())),
            connections_per_peer_max: 64,
            connections_max: 64,
            timers: hl7::connection::Timers::default(),
        };
        let messages: Arc<dyn MessageIntake> = Arc::<Shelf>::clone(&shelf);
        let events: Arc<dyn EventSink> = Arc::<Shelf>::clone(&shelf);
        let listener = hl7::Listener::bind(config, messages, events).await?;
        let address = listener.address()?;
        let (closing, closed) = watch::channel(false);
        let task = tokio::spawn(listener.listen(closed));
        Ok(Self { shelf, address, task, _closing: closing })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes so many messages more, and has no room for the next `count`.
    pub fn refuse(&self, after: usize, count: usize) {
        self.shelf.refuse(after, count);
    }

    /// What it was sent so far, in order.
    pub fn received(&self) -> Vec<String> {
        let raw = self.received_raw();
        raw.iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
    }

    /// The same, byte by byte.
    pub fn received_raw(&self) -> Vec<Vec<u8>> {
        self.shelf.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Ehr {
    fn drop(&mut self) {
        self.task.abort();
    }
}
