//! One conversation with one peer, from its acceptance to its release.

use std::time::Instant;

use contracts::Intake;
use dicom_ul::pdu::{AbortRQServiceProviderReason as Reason, Pdu};

use crate::config::Timers;
use crate::message::{Assembler, CANCEL, Command, MessageError, Status, Step, fragments};
use crate::negotiation::{Agreed, abort};
use crate::pdu_stream::{Kind, PduError, PduStream, data_pdu};
use crate::storage_scp::{Answer, Reception, answer_plain};

/// Why an association ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum AssociationError {
    /// The connection failed, or what came over it was no PDU.
    #[error("the association broke")]
    Pdu(#[from] PduError),
    /// The peer sent what is not a message.
    #[error("the peer sent an unreadable message")]
    Message(#[from] MessageError),
    /// The peer gave up.
    #[error("the peer aborted the association")]
    Aborted,
    /// The peer broke the protocol.
    #[error("the peer sent a PDU that has no place here")]
    UnexpectedPdu,
    /// The peer sent on a context that was not agreed on.
    #[error("the peer used a presentation context that was not accepted")]
    UnknownContext,
    /// The peer took longer for a message than anybody may.
    #[error("a message took too long")]
    TooSlow,
}

impl AssociationError {
    /// What to tell the peer (DIN-14), if it can still be told anything.
    fn farewell(&self) -> Option<Pdu> {
        match self {
            Self::Aborted | Self::Pdu(PduError::Closed | PduError::Io(_)) => None,
            Self::Pdu(PduError::Unknown(_)) => Some(abort(Reason::UnrecognizedPdu)),
            Self::UnexpectedPdu => Some(abort(Reason::UnexpectedPdu)),
            Self::TooSlow | Self::Pdu(PduError::Silent) => Some(abort(Reason::ReasonNotSpecified)),
            _ => Some(abort(Reason::InvalidPduParameter)),
        }
    }
}

/// One association that was accepted.
pub(crate) struct Association<'a> {
    pub(crate) agreed: Agreed,
    pub(crate) address: String,
    pub(crate) timers: Timers,
    pub(crate) intake: &'a dyn Intake,
}

/// A message on its way in.
struct Open {
    since: Instant,
    bytes: u64,
    reception: Reception,
}

impl Association<'_> {
    /// Answers the peer until it releases the association, and says how many messages there were.
    ///
    /// # Errors
    ///
    /// Fails if the peer aborts, goes silent, or says what we do not understand. What it was told
    /// had succeeded stays so.
    pub(crate) async fn serve(&self, mut stream: PduStream) -> (u64, Result<(), AssociationError>) {
        let mut messages = 0;
        let outcome = self.converse(&mut stream, &mut messages).await;
        let farewell = match &outcome {
            Ok(()) => None,
            Err(error) => error.farewell(),
        };
        if let Some(pdu) = farewell {
            // The peer may be gone: there is nobody else to tell.
            _ = stream.send(&pdu, self.timers.response).await;
        }
        stream.wait_for_close(self.timers.artim).await;
        (messages, outcome)
    }

    async fn converse(
        &self,
        stream: &mut PduStream,
        messages: &mut u64,
    ) -> Result<(), AssociationError> {
        let mut assembler = Assembler::default();
        let mut open: Option<Open> = None;
        // When the message that is being received was begun.
        let mut begun = Instant::now();
        loop {
            let is_idle = assembler.is_between_messages();
            let wait = if is_idle { self.timers.idle } else { self.timers.inactivity };
            // The whole PDU must come within the wait, however its bytes trickle.
            let next = tokio::time::timeout(wait, stream.next(wait)).await;
            let (kind, pdu) = next.map_err(|_| PduError::Silent)??;
            if is_idle {
                begun = Instant::now();
            } else if begun.elapsed() > self.timers.message {
                return Err(AssociationError::TooSlow);
            }
            match kind {
                Kind::Data => {
                    let mut answers = Vec::new();
                    for fragment in fragments(pdu)? {
                        let step = assembler.push(fragment)?;
                        answers.extend(self.step(step, &mut open).await?);
                    }
                    for (command, (status, comment)) in answers {
                        *messages += 1;
                        self.respond(stream, &command, status, &comment).await?;
                    }
                }
                Kind::ReleaseRq if is_idle => {
                    return Ok(stream.send(&Pdu::ReleaseRP, self.timers.response).await?);
                }
                Kind::Abort => return Err(AssociationError::Aborted),
                _ => return Err(AssociationError::UnexpectedPdu),
            }
        }
    }

    /// Does what a fragment leads to. Gives the answer, if it was the last of a message.
    async fn step(
        &self,
        step: Step<'_>,
        open: &mut Option<Open>,
    ) -> Result<Option<(Command, Answer)>, AssociationError> {
        match step {
            Step::Wait => Ok(None),
            Step::Command(command) => {
                if !self.agreed.contexts.iter().any(|(id, ..)| *id == command.context) {
                    return Err(AssociationError::UnknownContext);
                }
                if command.is_response() {
                    return Err(AssociationError::UnexpectedPdu);
                }
                if command.field == CANCEL {
                    return Ok(None);
                }
                if !command.has_data_set {
                    let answer = answer_plain(&command);
                    return Ok(Some((command, answer)));
                }
                let reception = Reception::begin(command, &self.agreed, self.intake);
                *open = Some(Open { since: Instant::now(), bytes: 0, reception });
                Ok(None)
            }
            Step::Data { bytes, is_last } => {
                let Some(message) = open.as_mut() else {
                    return Err(MessageError::OutOfOrder.into());
                };
                message.bytes += bytes.len() as u64;
                self.check_pace(message)?;
                message.reception.write(bytes);
                match open.take_if(|_| is_last) {
                    None => Ok(None),
                    Some(whole) => {
                        let kept =
                            whole.reception.finish(&self.agreed, &self.address, self.intake).await;
                        Ok(Some(kept))
                    }
                }
            }
        }
    }

    /// Ends messages that are slow on purpose (DIN-15).
    fn check_pace(&self, message: &Open) -> Result<(), AssociationError> {
        let elapsed = message.since.elapsed();
        let least = elapsed.as_secs().saturating_mul(self.timers.throughput_min);
        if elapsed > self.timers.inactivity && message.bytes < least {
            return Err(AssociationError::TooSlow);
        }
        Ok(())
    }

    async fn respond(
        &self,
        stream: &mut PduStream,
        command: &Command,
        status: Status,
        comment: &str,
    ) -> Result<(), AssociationError> {
        let bytes = command.answer(status, comment).to_bytes();
        let pdu = data_pdu(command.context, true, true, &bytes);
        Ok(stream.send_bytes(&pdu, self.timers.response).await?)
    }
}
