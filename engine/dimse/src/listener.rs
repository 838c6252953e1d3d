//! The door for DICOM: accepts connections, asks who is there, and gives each a task of its own.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use contracts::Intake;
use dicom_ul::pdu::{AbortRQServiceProviderReason, Pdu};
use domain::{Action, Actor, AeTitle, ErrorChain, Event, Outcome, Subject};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use crate::association::Association;
use crate::config::Config;
use crate::negotiation::{self, Answer, Load, abort};
use crate::pdu_stream::{Kind, PduError, PduStream};

/// Connections that have not said who they are, per address. One more, and the oldest is closed, so that
/// nobody keeps others out by saying nothing.
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

/// What a peer calls itself and us, as far as these are AE titles.
type Names = (Option<AeTitle>, Option<AeTitle>);

/// Who is inside.
#[derive(Default)]
struct Guests {
    associations: usize,
    of_address: HashMap<IpAddr, usize>,
    of_name: HashMap<AeTitle, usize>,
    /// Those who have not said who they are, the oldest first.
    strangers: HashMap<IpAddr, VecDeque<Arc<Notify>>>,
}

/// Takes one off a count, and forgets who has none left.
fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

/// A connection that has not said who it is, until it is dropped.
struct Stranger {
    shared: Arc<Shared>,
    address: IpAddr,
    /// Told when it has to make room for another.
    shown_out: Arc<Notify>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut guests = self.shared.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(strangers) = guests.strangers.get_mut(&self.address) {
            strangers.retain(|it| !Arc::ptr_eq(it, &self.shown_out));
            if strangers.is_empty() {
                guests.strangers.remove(&self.address);
            }
        }
    }
}

/// An association that is counted, until it is dropped.
struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
    name: AeTitle,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.shared.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.associations -= 1;
        one_less(&mut guests.of_address, &self.address);
        one_less(&mut guests.of_name, &self.name);
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
        let stranger = self.shared.count_stranger(address.ip());
        let shared = Arc::clone(&self.shared);
        let span = info_span!("association", peer = %address);
        tokio::spawn(async move { shared.greet(stream, address, stranger).await }.instrument(span));
    }
}

impl Shared {
    /// Counts somebody in who has not said who they are. If that is one too many of an address, the one
    /// that has been silent for longest has to go.
    fn count_stranger(self: &Arc<Self>, address: IpAddr) -> Stranger {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let strangers = guests.strangers.entry(address).or_default();
        if strangers.len() >= STRANGERS_PER_ADDRESS_MAX
            && let Some(oldest) = strangers.pop_front()
        {
            oldest.notify_one();
        }
        let shown_out = Arc::<Notify>::default();
        strangers.push_back(Arc::clone(&shown_out));
        drop(guests);
        Stranger { shared: Arc::clone(self), address, shown_out }
    }

    /// Answers the request and counts the peer in, in one step, so that two cannot take one place.
    fn admit(self: &Arc<Self>, address: IpAddr, bytes: &[u8]) -> (Answer, Option<Place>) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, _) = negotiation::names(bytes);
        let of_name = name.as_ref().and_then(|it| guests.of_name.get(it));
        let load = Load {
            associations: guests.associations,
            of_address: guests.of_address.get(&address).copied().unwrap_or_default(),
            of_name: of_name.copied().unwrap_or_default(),
            is_congested: self.intake.is_admitting().is_err(),
        };
        let answer = negotiation::answer(&self.config, load, address, bytes);
        let (Answer::Accept(..), Some(name)) = (&answer, name) else { return (answer, None) };
        guests.associations += 1;
        *guests.of_address.entry(address).or_default() += 1;
        *guests.of_name.entry(name.clone()).or_default() += 1;
        drop(guests);
        (answer, Some(Place { shared: Arc::clone(self), address, name }))
    }

    /// Asks who is there, and lets them in or turns them away.
    async fn greet(self: Arc<Self>, stream: TcpStream, address: SocketAddr, stranger: Stranger) {
        let timers = self.config.timers;
        let shown_out = Arc::clone(&stranger.shown_out);
        let mut stream = PduStream::new(stream, self.config.pdu_bytes_max);
        let asked = tokio::select! {
            asked = self.ask(&mut stream, address.ip()) => asked,
            () = shown_out.notified() => return,
        };
        let Some((answer, place, names)) = asked else { return };
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
                // Who is being turned away still takes a place among the strangers.
                tokio::select! {
                    () = self.turn_away(stream, &pdu) => {}
                    () = shown_out.notified() => {}
                }
                drop(stranger);
            }
        }
    }

    /// What a peer asks for is answered with; its place, if it has one now; and what it calls itself and us.
    async fn ask(
        self: &Arc<Self>,
        stream: &mut PduStream,
        address: IpAddr,
    ) -> Option<(Answer, Option<Place>, Names)> {
        let timers = self.config.timers;
        // The whole request must come within one ARTIM, however its bytes trickle.
        let request = tokio::time::timeout(timers.artim, stream.next(timers.artim)).await;
        let nobody = (None, None);
        let (pdu, why) = match request {
            Ok(Ok((Kind::AssociateRq, bytes))) => {
                let names = negotiation::names(bytes);
                let (answer, place) = self.admit(address, bytes);
                return Some((answer, place, names));
            }
            Ok(Ok(_)) => {
                let pdu = abort(AbortRQServiceProviderReason::UnexpectedPdu);
                (pdu, "the first PDU was no association request")
            }
            Ok(Err(PduError::Unknown(_))) => {
                let pdu = abort(AbortRQServiceProviderReason::UnrecognizedPdu);
                (pdu, "the first PDU was of an unknown type")
            }
            Ok(Err(PduError::TooLong { .. } | PduError::WrongLength)) => {
                (negotiation::invalid_parameter(), "the first PDU was too long")
            }
            Ok(Err(_)) | Err(_) => return None,
        };
        Some((Answer::Abort(pdu, why), None, nobody))
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
    async fn tell_refused(&self, why: &str, (calling, called): Names, address: SocketAddr) {
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
