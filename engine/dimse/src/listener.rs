//! Listens for DICOM: accepts connections, negotiates, and serves each association in its own task.
//!
//! What is limited is counted here: all associations, those of one network address, those of one AE
//! title (DIN-13; `negotiation` refuses), and connections that have not sent an association request.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dicom_ul::pdu::Pdu;
use domain::event::{AssociationEndedEarly, AssociationRefused, EventBody};
use domain::{Actor, AeTitle, ErrorChain, Event, Outcome, Subject};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use crate::association::{Association, Served};
use crate::config::Config;
use crate::intakes::Intakes;
use crate::negotiation::{self, AbortCause, AeTitles, Answer, Load};
use crate::pdu_stream::{PduError, PduKind, PduStream};
use crate::presentation_context::Negotiated;
use crate::services::AssociationContext;

/// Connections without an association, per network address. One more, and the oldest is closed, so
/// that a peer cannot keep others out by sending nothing.
const UNIDENTIFIED_PER_ADDRESS_MAX: usize = 128;

/// How long to wait when a connection cannot be accepted, mostly for lack of file handles.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listener for DICOM associations.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
}

/// What all connections of a listener share.
struct Shared {
    config: Config,
    intakes: Intakes,
    connections: Mutex<Connections>,
}

/// The connections that are open.
#[derive(Default)]
struct Connections {
    associations: usize,
    of_address: HashMap<IpAddr, usize>,
    of_ae_title: HashMap<AeTitle, usize>,
    /// Connections without an association, the oldest first: notified when they are to be closed.
    unidentified: HashMap<IpAddr, VecDeque<Arc<Notify>>>,
}

/// Decrements a count, and removes it at zero.
fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A connection without an association, counted until it is dropped.
struct Unidentified {
    shared: Arc<Shared>,
    address: IpAddr,
    /// Notified when the connection is to be closed in favour of a newer one.
    evicted: Arc<Notify>,
}

impl Drop for Unidentified {
    fn drop(&mut self) {
        let mut connections = self.shared.connections();
        if let Some(unidentified) = connections.unidentified.get_mut(&self.address) {
            unidentified.retain(|it| !Arc::ptr_eq(it, &self.evicted));
            if unidentified.is_empty() {
                connections.unidentified.remove(&self.address);
            }
        }
    }
}

/// An association that counts towards the limits until it is dropped.
struct AssociationPermit {
    shared: Arc<Shared>,
    address: IpAddr,
    ae_title: AeTitle,
}

impl Drop for AssociationPermit {
    fn drop(&mut self) {
        let mut connections = self.shared.connections();
        connections.associations -= 1;
        decrement(&mut connections.of_address, &self.address);
        decrement(&mut connections.of_ae_title, &self.ae_title);
    }
}

/// The first PDU of a connection, answered.
struct FirstPdu {
    answer: Answer,
    /// The permit of an association that was accepted.
    permit: Option<AssociationPermit>,
    titles: AeTitles,
}

impl Listener {
    /// Binds the address of `config`.
    ///
    /// # Errors
    ///
    /// Fails if the address is in use or does not belong to this machine.
    pub async fn bind(config: Config, intakes: Intakes) -> std::io::Result<Self> {
        let socket = TcpListener::bind(config.listen).await?;
        let connections = Mutex::default();
        Ok(Self { socket, shared: Arc::new(Shared { config, intakes, connections }) })
    }

    /// The address that is listened on, with the port that the system chose if it was zero.
    ///
    /// # Errors
    ///
    /// Fails if the system does not know the address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections until `closing` becomes true. Open associations go on in their tasks.
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
        let unidentified = self.shared.count_unidentified(address.ip());
        let shared = Arc::clone(&self.shared);
        let span = info_span!("association", peer = %address);
        let served = async move { shared.serve(stream, address, unidentified).await };
        tokio::spawn(served.instrument(span));
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new connection. If its address has too many without an association, the oldest of
    /// them is closed.
    fn count_unidentified(self: &Arc<Self>, address: IpAddr) -> Unidentified {
        let mut connections = self.connections();
        let unidentified = connections.unidentified.entry(address).or_default();
        if unidentified.len() >= UNIDENTIFIED_PER_ADDRESS_MAX
            && let Some(oldest) = unidentified.pop_front()
        {
            oldest.notify_one();
        }
        let evicted = Arc::<Notify>::default();
        unidentified.push_back(Arc::clone(&evicted));
        drop(connections);
        Unidentified { shared: Arc::clone(self), address, evicted }
    }

    /// Negotiates with a peer, and serves its association if it is accepted.
    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        unidentified: Unidentified,
    ) {
        let timers = self.config.timers;
        let evicted = Arc::clone(&unidentified.evicted);
        let mut stream = PduStream::new(stream, self.config.pdu_bytes_max);
        let first = tokio::select! {
            first = self.answer_first_pdu(&mut stream, address.ip()) => first,
            () = evicted.notified() => return,
        };
        let Some(FirstPdu { answer, permit, titles }) = first else { return };
        let (pdu, reason) = match answer {
            Answer::Accept(negotiated, pdu) => {
                drop(unidentified);
                if stream.send(&pdu, timers.response).await.is_ok() {
                    self.serve_association(stream, negotiated, address).await;
                }
                drop(permit);
                return;
            }
            Answer::Reject(rejection) => (rejection.pdu(), rejection.reason()),
            Answer::Abort(cause) => (cause.pdu(), cause.reason()),
        };
        self.record_refusal(reason, &titles, address).await;
        // While it is being refused, the connection still counts as one without an association.
        tokio::select! {
            () = self.refuse(stream, &pdu) => {}
            () = evicted.notified() => {}
        }
        drop(unidentified);
    }

    /// Reads the first PDU and decides on it. Nothing, if the peer sends none in time.
    async fn answer_first_pdu(
        self: &Arc<Self>,
        stream: &mut PduStream,
        address: IpAddr,
    ) -> Option<FirstPdu> {
        let artim = self.config.timers.artim;
        // The whole request must come within one ARTIM, however slowly its bytes arrive.
        let read = tokio::time::timeout(artim, stream.next(artim)).await;
        let cause = match read {
            Ok(Ok((PduKind::AssociateRq, bytes))) => return Some(self.negotiate(address, bytes)),
            Ok(Ok(_)) => AbortCause::UnexpectedPdu,
            Ok(Err(PduError::Unknown(_))) => AbortCause::UnknownPdu,
            Ok(Err(PduError::TooLong { .. } | PduError::WrongLength)) => AbortCause::TooLong,
            Ok(Err(PduError::Closed | PduError::Io(_) | PduError::Silent)) | Err(_) => return None,
        };
        let answer = Answer::Abort(cause);
        Some(FirstPdu { answer, permit: None, titles: AeTitles::default() })
    }

    /// Answers an association request and counts the association, under one lock, so that two
    /// requests cannot be accepted for one remaining place.
    fn negotiate(self: &Arc<Self>, address: IpAddr, request: &[u8]) -> FirstPdu {
        let titles = AeTitles::of_request(request);
        let mut connections = self.connections();
        let of_ae_title = titles.calling.as_ref().and_then(|it| connections.of_ae_title.get(it));
        let load = Load {
            associations: connections.associations,
            of_address: connections.of_address.get(&address).copied().unwrap_or_default(),
            of_ae_title: of_ae_title.copied().unwrap_or_default(),
            is_congested: self.intakes.admission.check_admitting().is_err(),
        };
        let answer = negotiation::answer(&self.config, load, address, request);
        let Answer::Accept(negotiated, _) = &answer else {
            return FirstPdu { answer, permit: None, titles };
        };
        let ae_title = negotiated.calling.clone();
        connections.associations += 1;
        *connections.of_address.entry(address).or_default() += 1;
        *connections.of_ae_title.entry(ae_title.clone()).or_default() += 1;
        drop(connections);
        let permit = AssociationPermit { shared: Arc::clone(self), address, ae_title };
        FirstPdu { answer, permit: Some(permit), titles }
    }

    async fn serve_association(
        &self,
        stream: PduStream,
        negotiated: Negotiated,
        address: SocketAddr,
    ) {
        let calling = negotiated.calling.clone();
        let context = AssociationContext {
            id: Uuid::now_v7(),
            negotiated,
            address: address.ip().to_string(),
            data_set_bytes_max: usize::try_from(self.config.association_bytes_max)
                .unwrap_or(usize::MAX),
            intakes: self.intakes.clone(),
        };
        metrics::counter!("dimse_associations_total", "outcome" => "accepted").increment(1);
        let association = Association { context, timers: self.config.timers };
        let Served { messages, outcome } = association.serve(stream).await;
        match outcome {
            Ok(()) => info!(%calling, messages, "association released"),
            Err(error) => {
                warn!(%calling, messages, error = %ErrorChain(&error), "association ended early");
                let actor = Actor::peer(calling.as_str(), &address.ip().to_string());
                let reason = error.to_string();
                self.record(actor, AssociationEndedEarly { messages, reason }).await;
            }
        }
    }

    /// Records a refusal with the AE titles of the request: the likeliest reason is a misspelt one.
    async fn record_refusal(&self, reason: &str, titles: &AeTitles, address: SocketAddr) {
        metrics::counter!("dimse_associations_total", "outcome" => "rejected").increment(1);
        let calling = titles.calling.as_ref().map_or("unknown", AeTitle::as_str);
        let called = titles.called.as_ref().map_or("unknown", AeTitle::as_str);
        warn!(calling, called, reason, "association refused");
        let actor = Actor::peer(calling, &address.ip().to_string());
        let called_ae = called.to_owned();
        self.record(actor, AssociationRefused { reason: reason.to_owned(), called_ae }).await;
    }

    async fn refuse(&self, mut stream: PduStream, pdu: &Pdu) {
        // The peer may be gone: then nothing can be reported to it.
        _ = stream.send(pdu, self.config.timers.response).await;
        stream.wait_for_close(self.config.timers.artim).await;
    }

    async fn record(&self, actor: Actor, body: impl EventBody) {
        let event = Event::new(Subject::default(), body).by(actor).ended(Outcome::MinorFailure);
        self.intakes.events.record_event(event).await;
    }
}
