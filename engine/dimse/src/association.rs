//! One association with one peer, from its acceptance to its release.
//!
//! `Association::serve` reads PDUs, assembles messages, and hands each request to the service
//! that answers it. What the services do is in `services`.

use std::sync::Arc;
use std::time::Instant;

use dicom_ul::pdu::{AbortRQServiceProviderReason as Reason, Pdu};

use crate::config::Timers;
use crate::message::{Assembler, Command, CommandField, MessageError, Step, fragments};
use crate::negotiation::abort;
use crate::notifications::{Notifications, Ready};
use crate::pdu_stream::{PduError, PduKind, PduStream, data_pdu, data_pdus};
use crate::services::{
    AssociationContext, DataSetReceiver, Offer, Request, Response, SERVICES, answering, receive,
    serving,
};

/// Why an association ended without being released.
#[derive(Debug, thiserror::Error)]
pub enum AssociationError {
    /// The connection failed, or what came over it was no PDU.
    #[error("the association broke")]
    Pdu(#[from] PduError),
    /// The peer sent what is not a message.
    #[error("the peer sent an unreadable message")]
    Message(#[from] MessageError),
    /// The peer aborted the association.
    #[error("the peer aborted the association")]
    Aborted,
    /// The peer sent a PDU that the protocol does not allow now.
    #[error("the peer sent a PDU that has no place here")]
    UnexpectedPdu,
    /// The peer sent on a presentation context that was not accepted.
    #[error("the peer used a presentation context that was not accepted")]
    UnknownContext,
    /// The peer took longer for a message than any peer may.
    #[error("a message took too long")]
    TooSlow,
}

impl AssociationError {
    /// The PDU that tells the peer why (DIN-14), if the connection can still carry one.
    fn abort_pdu(&self) -> Option<Pdu> {
        match self {
            Self::Aborted | Self::Pdu(PduError::Closed | PduError::Io(_)) => None,
            Self::Pdu(PduError::Unknown(_)) => Some(abort(Reason::UnrecognizedPdu)),
            Self::UnexpectedPdu => Some(abort(Reason::UnexpectedPdu)),
            Self::TooSlow | Self::Pdu(PduError::Silent) => Some(abort(Reason::ReasonNotSpecified)),
            Self::Message(_)
            | Self::UnknownContext
            | Self::Pdu(PduError::TooLong { .. } | PduError::WrongLength) => {
                Some(abort(Reason::InvalidPduParameter))
            }
        }
    }
}

/// An association that was accepted.
pub(crate) struct Association {
    pub(crate) context: AssociationContext,
    pub(crate) timers: Timers,
}

/// How an association went.
pub(crate) struct Served {
    /// Number of requests that were answered.
    pub(crate) messages: u64,
    pub(crate) outcome: Result<(), AssociationError>,
}

/// A message whose data set is arriving.
struct OpenMessage<'a> {
    since: Instant,
    bytes: u64,
    /// The request and the receiver of its data set. Nothing for a response of the peer, whose
    /// data set is dropped.
    request: Option<OpenRequest<'a>>,
}

/// A request whose data set is arriving.
struct OpenRequest<'a> {
    command: Arc<Command>,
    receiver: Box<dyn DataSetReceiver + 'a>,
}

/// A request and the response to it.
struct Answered {
    command: Arc<Command>,
    response: Response,
}

/// What the association goes on with.
enum Next<'a> {
    Pdu(Result<(PduKind, &'a [u8]), PduError>),
    Notification(Ready),
}

impl Association {
    /// Answers the peer until it releases the association.
    ///
    /// It ends early if the peer aborts, goes silent, or violates the protocol. What was answered
    /// with success stays stored.
    pub(crate) async fn serve(&self, mut stream: PduStream) -> Served {
        let mut messages = 0;
        let mut notifications = Notifications::default();
        let outcome = self.answer_all(&mut stream, &mut messages, &mut notifications).await;
        for service in SERVICES {
            if self.uses(service.offer()) {
                service.association_ended(&self.context).await;
            }
        }
        notifications.association_ended().await;
        if let Err(error) = &outcome
            && let Some(pdu) = error.abort_pdu()
        {
            // The peer may be gone: then nothing can be reported to it.
            _ = stream.send(&pdu, self.timers.response).await;
        }
        stream.wait_for_close(self.timers.artim).await;
        Served { messages, outcome }
    }

    /// Whether a presentation context for one of these SOP classes was negotiated.
    fn uses(&self, offer: &Offer) -> bool {
        let contexts = &self.context.negotiated.contexts;
        contexts.iter().any(|it| std::ptr::eq(serving(&it.abstract_syntax).offer(), offer))
    }

    async fn answer_all(
        &self,
        stream: &mut PduStream,
        messages: &mut u64,
        notifications: &mut Notifications,
    ) -> Result<(), AssociationError> {
        let mut assembler = Assembler::default();
        let mut open: Option<OpenMessage<'_>> = None;
        let mut message_began = Instant::now();
        loop {
            let is_idle = assembler.is_between_messages();
            let wait = if is_idle { self.timers.idle } else { self.timers.inactivity };
            let can_notify = is_idle && notifications.is_waiting();
            let next = tokio::select! {
                // The whole PDU must come within the wait, however slowly its bytes arrive.
                next = tokio::time::timeout(wait, stream.next(wait)) => {
                    Next::Pdu(next.unwrap_or(Err(PduError::Silent)))
                }
                Some(ready) = notifications.next_ready(), if can_notify => {
                    Next::Notification(ready)
                }
            };
            let (kind, pdu) = match next {
                Next::Pdu(next) => next?,
                Next::Notification(ready) => {
                    self.notify(stream, ready, notifications).await?;
                    continue;
                }
            };
            if is_idle {
                message_began = Instant::now();
            } else if message_began.elapsed() > self.timers.message {
                return Err(AssociationError::TooSlow);
            }
            match kind {
                PduKind::Data => {
                    let mut answers = Vec::new();
                    for fragment in fragments(pdu)? {
                        let step = assembler.push(fragment)?;
                        answers.extend(self.step(step, &mut open, notifications).await?);
                    }
                    for answered in answers {
                        *messages += 1;
                        self.respond(stream, answered, notifications).await?;
                    }
                }
                PduKind::ReleaseRq if is_idle => {
                    return Ok(stream.send(&Pdu::ReleaseRP, self.timers.response).await?);
                }
                PduKind::Abort => return Err(AssociationError::Aborted),
                _ => return Err(AssociationError::UnexpectedPdu),
            }
        }
    }

    /// Handles one step of the assembler. Returns the answer if a request is complete.
    async fn step<'a>(
        &'a self,
        step: Step<'_>,
        open: &mut Option<OpenMessage<'a>>,
        notifications: &mut Notifications,
    ) -> Result<Option<Answered>, AssociationError> {
        match step {
            Step::Incomplete => Ok(None),
            Step::Command(command) => self.begin(command, open, notifications).await,
            Step::Data { bytes, is_last } => {
                let message = open.as_mut().ok_or(MessageError::OutOfOrder)?;
                message.bytes += bytes.len() as u64;
                self.check_throughput(message)?;
                if let Some(request) = &mut message.request {
                    request.receiver.write(bytes).await;
                }
                let complete = open.take_if(|_| is_last).and_then(|it| it.request);
                let Some(OpenRequest { command, receiver }) = complete else { return Ok(None) };
                Ok(Some(Answered { command, response: receiver.finish().await }))
            }
        }
    }

    /// Begins a message. Returns the answer if it is a request without a data set.
    async fn begin<'a>(
        &'a self,
        command: Command,
        open: &mut Option<OpenMessage<'a>>,
        notifications: &mut Notifications,
    ) -> Result<Option<Answered>, AssociationError> {
        let context =
            self.context.context(command.context_id).ok_or(AssociationError::UnknownContext)?;
        if command.field == CommandField::C_CANCEL {
            return Ok(None);
        }
        let mut message = OpenMessage { since: Instant::now(), bytes: 0, request: None };
        if command.is_response() {
            if !notifications.acknowledge(&command).await {
                return Err(AssociationError::UnexpectedPdu);
            }
            *open = command.has_data_set.then_some(message);
            return Ok(None);
        }
        let service = answering(command.field, &context.abstract_syntax);
        let command = Arc::new(command);
        let association = &self.context;
        let request = Request { command: Arc::clone(&command), context, association };
        if command.has_data_set {
            let receiver = receive(service, request);
            message.request = Some(OpenRequest { command, receiver });
            *open = Some(message);
            return Ok(None);
        }
        let response = match service {
            Some(service) => service.answer(&request).await,
            None => Response::unrecognized_operation(),
        };
        Ok(Some(Answered { command, response }))
    }

    /// Sends an event report; the acknowledgement of the peer comes as a message of its own.
    async fn notify(
        &self,
        stream: &mut PduStream,
        ready: Ready,
        notifications: &mut Notifications,
    ) -> Result<(), AssociationError> {
        let wait = self.timers.response;
        let report = notifications.begin(ready);
        let context_id = report.command.context_id;
        let command = report.command.to_bytes();
        stream.send_bytes(&data_pdu(context_id, true, true, &command), wait).await?;
        let send_bytes_max = self.context.negotiated.send_bytes_max;
        for pdu in data_pdus(context_id, send_bytes_max, &report.data_set) {
            stream.send_bytes(&pdu, wait).await?;
        }
        Ok(())
    }

    /// Ends messages that arrive too slowly (DIN-15).
    fn check_throughput(&self, message: &OpenMessage<'_>) -> Result<(), AssociationError> {
        let elapsed = message.since.elapsed();
        let bytes_min = elapsed.as_secs().saturating_mul(self.timers.throughput_min);
        if elapsed > self.timers.inactivity && message.bytes < bytes_min {
            return Err(AssociationError::TooSlow);
        }
        Ok(())
    }

    /// Sends the response to a request. Its notification, if it has one, may follow.
    async fn respond(
        &self,
        stream: &mut PduStream,
        answered: Answered,
        notifications: &mut Notifications,
    ) -> Result<(), AssociationError> {
        let Answered { command, response } = answered;
        if let Some(notification) = response.notification {
            notifications.add(command.context_id, notification);
        }
        let bytes = command.response(response.status, &response.comment).to_bytes();
        let pdu = data_pdu(command.context_id, true, true, &bytes);
        Ok(stream.send_bytes(&pdu, self.timers.response).await?)
    }
}
