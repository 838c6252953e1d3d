//! The door for DICOM: accepts connections, asks who is there, and gives each a task of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use contracts::Intake;
use dicom_ul::pdu::{AbortRQServiceProviderReason, Pdu};
use domain::{Action, Actor, AeTitle, ErrorChain, Event, Outcome, Subject};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use crate::association::Association;
use crate::config::Config;
use crate::negotiation::{self, Answer, Load, abort};
use crate::pdu_stream::{Kind, PduError, PduStream};

/// Connections that have not said who they are, per address. More are closed at once, so that
/// nobody fills the table by saying nothing.
const STRANGERS_PER_ADDRESS_MAX: usize = 128;

/// An open door.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    intake: Arc<dyn Intake>,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    associations: HashMap<IpAddr, usize>,
    strangers: HashMap<IpAddr, usize>,
}

impl Guests {
    fn total(&self) -> usize {
        self.associations.values().sum()
    }
}

/// Takes one off a count when it is dropped.
struct Counted {
    shared: Arc<Shared>,
    address: IpAddr,
    is_association: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut guests = self.shared.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let table =
            if self.is_association { &mut guests.associations } else { &mut guests.strangers };
        if let Some(count) = table.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.address);
            }
        }
    }
}

impl Listener {
    /// Opens the door.
    ///
    /// # Errors
    ///
    /// Fails if the address is taken or not ours.
    pub async fn bind(config: Config, intake: Arc<dyn Intake>) -> std::io::Result<Self> {
        let socket = TcpListener::bind(config.listen).await?;
        let guests = Mutex::default();
        Ok(Self { socket, shared: Arc::new(Shared { config, intake, guests }) })
    }

    /// Where it is.
    ///
    /// # Errors
    ///
    /// Fails if the system does not know.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Lets peers in until `closing` says so; then waits for those inside to finish their message
    /// at most as long as they may be silent.
    pub async fn listen(self, mut closing: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = closing.wait_for(|it| *it) => return,
            };
            match accepted {
                Ok((stream, address)) => self.receive(stream, address),
                Err(error) => {
                    // Out of file handles: give those inside time to end.
                    warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn receive(&self, stream: TcpStream, address: SocketAddr) {
        let Some(stranger) = self.shared.count_stranger(address.ip()) else { return };
        let shared = Arc::clone(&self.shared);
        let span = info_span!("association", peer = %address);
        tokio::spawn(async move { shared.greet(stream, address, stranger).await }.instrument(span));
    }
}

impl Shared {
    fn count_stranger(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let count = guests.strangers.entry(address).or_default();
        if *count >= STRANGERS_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        drop(guests);
        Some(Counted { shared: Arc::clone(self), address, is_association: false })
    }

    /// Answers the request and counts the peer in, in one step, so that two cannot take one place.
    fn admit(self: &Arc<Self>, address: IpAddr, bytes: &[u8]) -> (Answer, Option<Counted>) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let load = Load {
            associations: guests.total(),
            of_peer: guests.associations.get(&address).copied().unwrap_or_default(),
            is_congested: self.intake.is_open().is_err(),
        };
        let answer = negotiation::answer(&self.config, load, address, bytes);
        if !matches!(answer, Answer::Accept(..)) {
            return (answer, None);
        }
        *guests.associations.entry(address).or_default() += 1;
        drop(guests);
        let counted = Counted { shared: Arc::clone(self), address, is_association: true };
        (answer, Some(counted))
    }

    async fn greet(self: Arc<Self>, stream: TcpStream, address: SocketAddr, stranger: Counted) {
        let timers = self.config.timers;
        let mut stream = PduStream::new(stream, self.config.pdu_bytes_max);
        // The whole request must come within one ARTIM, however its bytes trickle.
        let request = tokio::time::timeout(timers.artim, stream.next(timers.artim)).await;
        let mut names = (None, None);
        let (answer, place) = match request {
            Ok(Ok((Kind::AssociateRq, bytes))) => {
                names = negotiation::names(bytes);
                self.admit(address.ip(), bytes)
            }
            Ok(Ok(_)) => {
                let pdu = abort(AbortRQServiceProviderReason::UnexpectedPdu);
                (Answer::Abort(pdu, "the first PDU was no association request"), None)
            }
            Ok(Err(PduError::Unknown(_))) => {
                let pdu = abort(AbortRQServiceProviderReason::UnrecognizedPdu);
                (Answer::Abort(pdu, "the first PDU was of an unknown type"), None)
            }
            Ok(Err(PduError::TooLong { .. } | PduError::WrongLength)) => (
                Answer::Abort(negotiation::invalid_parameter(), "the first PDU was too long"),
                None,
            ),
            Ok(Err(_)) | Err(_) => return,
        };
        match answer {
            Answer::Accept(agreed, pdu) => {
                drop(stranger);
                if stream.send(&pdu, timers.response).await.is_ok() {
                    self.host(stream, agreed, address).await;
                }
                drop(place);
            }
            Answer::Reject(pdu, why) | Answer::Abort(pdu, why) => {
                self.tell_refused(why, names, address).await;
                self.turn_away(stream, &pdu).await;
                // Who is being turned away still takes a place.
                drop(stranger);
            }
        }
    }

    async fn host(&self, stream: PduStream, agreed: negotiation::Agreed, address: SocketAddr) {
        let calling = agreed.calling.clone();
        let association = Association {
            agreed,
            address: address.ip().to_string(),
            id: Uuid::now_v7(),
            timers: self.config.timers,
            intake: self.intake.as_ref(),
        };
        metrics::counter!("dimse_associations_total", "outcome" => "accepted").increment(1);
        let (messages, outcome) = association.serve(stream).await;
        match outcome {
            Ok(()) => info!(%calling, messages, "association released"),
            Err(error) => {
                warn!(%calling, messages, error = %ErrorChain(&error), "association ended early");
                let detail = json!({"messages": messages, "reason": error.to_string()});
                self.tell("association_ended_early", calling.as_str(), address, detail).await;
            }
        }
    }

    /// Says who was refused as what they called themselves: the likeliest reason is a misspelt name.
    async fn tell_refused(
        &self,
        why: &str,
        (calling, called): (Option<AeTitle>, Option<AeTitle>),
        address: SocketAddr,
    ) {
        metrics::counter!("dimse_associations_total", "outcome" => "rejected").increment(1);
        let text =
            |it: Option<AeTitle>| it.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        let (calling, called) = (text(calling), text(called));
        warn!(calling, called, reason = why, "association refused");
        let detail = json!({"reason": why, "called_ae": called});
        self.tell("association_refused", &calling, address, detail).await;
    }

    async fn turn_away(&self, mut stream: PduStream, pdu: &Pdu) {
        // The peer may be gone: there is nobody else to tell.
        _ = stream.send(pdu, self.config.timers.response).await;
        stream.wait_for_close(self.config.timers.artim).await;
    }

    async fn tell(&self, kind: &str, who: &str, address: SocketAddr, detail: serde_json::Value) {
        let event = Event::engine(kind, Action::E, Subject::default(), detail)
            .by(Actor::peer(who, &address.ip().to_string()))
            .ended(Outcome::MinorFailure);
        self.intake.note_event(event).await;
    }
}
