//! One conversation with one peer, from its acceptance to its release.

use std::time::{Duration, Instant};

use contracts::{CommitmentResult, Intake, ReportEnd};
use dicom_ul::pdu::{AbortRQServiceProviderReason as Reason, Pdu};
use uuid::Uuid;

use crate::commitment_data::write_result;
use crate::commitment_scp::Request;
use crate::config::Timers;
use crate::message::{
    Assembler, CANCEL, Command, EVENT_REPORT, MessageError, Status, Step, fragments,
};
use crate::negotiation::{Agreed, abort};
use crate::pdu_stream::{Kind, PduError, PduStream, data_pdu, data_pdus};
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE, VERIFICATION};
use crate::storage_scp::{Answer, Reception, answer_plain};

/// How long an answer to storage commitment is given on the association of its request; after that
/// we call back (DIN-32).
const REPLY_WINDOW: Duration = Duration::from_secs(5);

/// How often we look for such an answer.
const REPLY_POLL: Duration = Duration::from_millis(100);

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
    /// Tells this association from all others.
    pub(crate) id: Uuid,
    pub(crate) timers: Timers,
    pub(crate) intake: &'a dyn Intake,
}

/// A message on its way in.
struct Open {
    since: Instant,
    bytes: u64,
    data: Data,
}

/// Where the data set of a message goes.
enum Data {
    /// To the disk.
    Instance(Box<Reception>),
    /// To be read at once.
    Request(Request),
    /// Nowhere: it belongs to an answer of the peer.
    Nowhere,
}

/// Storage commitment that may be answered while the peer stays.
#[derive(Default)]
struct Replies {
    /// Transactions of requests on this association, with their context, until when.
    waiting: Vec<(u8, String, Instant)>,
    /// Message ID and transaction of an answer the peer has not acknowledged.
    given: Option<(u16, String)>,
    last_id: u16,
}

/// What comes next.
enum Next<'a> {
    Pdu(Result<(Kind, &'a [u8]), PduError>),
    Reply(u8, CommitmentResult),
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
        let mut replies = Replies::default();
        let outcome = self.converse(&mut stream, &mut messages, &mut replies).await;
        if self.agreed.contexts.iter().any(|(_, class, _)| class != VERIFICATION) {
            self.intake.association_ended(self.id).await;
        }
        if let Some((_, transaction)) = replies.given.take() {
            let end = ReportEnd::NotReported("the association ended before".to_owned());
            self.intake.end_commitment(self.agreed.calling.as_str(), &transaction, end).await;
        }
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
        replies: &mut Replies,
    ) -> Result<(), AssociationError> {
        let mut assembler = Assembler::default();
        let mut open: Option<Open> = None;
        // When the message that is being received was begun.
        let mut begun = Instant::now();
        loop {
            let is_idle = assembler.is_between_messages();
            let wait = if is_idle { self.timers.idle } else { self.timers.inactivity };
            let is_free = is_idle && replies.given.is_none() && !replies.waiting.is_empty();
            let next = tokio::select! {
                // The whole PDU must come within the wait, however its bytes trickle.
                next = tokio::time::timeout(wait, stream.next(wait)) => {
                    Next::Pdu(next.unwrap_or(Err(PduError::Silent)))
                }
                Some((context, result)) = self.reply(&mut replies.waiting), if is_free => {
                    Next::Reply(context, result)
                }
            };
            let (kind, pdu) = match next {
                Next::Pdu(next) => next?,
                Next::Reply(context, result) => {
                    self.give(stream, context, &result, replies).await?;
                    continue;
                }
            };
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
                        answers.extend(self.step(step, &mut open, replies).await?);
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
        replies: &mut Replies,
    ) -> Result<Option<(Command, Answer)>, AssociationError> {
        match step {
            Step::Wait => Ok(None),
            Step::Command(command) => {
                if !self.agreed.contexts.iter().any(|(id, ..)| *id == command.context) {
                    return Err(AssociationError::UnknownContext);
                }
                if command.field == CANCEL {
                    return Ok(None);
                }
                if command.is_response() {
                    self.take_response(&command, replies).await?;
                } else if !command.has_data_set {
                    let answer = answer_plain(&command);
                    return Ok(Some((command, answer)));
                }
                if command.has_data_set {
                    let data = self.data(command);
                    *open = Some(Open { since: Instant::now(), bytes: 0, data });
                }
                Ok(None)
            }
            Step::Data { bytes, is_last } => {
                let Some(message) = open.as_mut() else {
                    return Err(MessageError::OutOfOrder.into());
                };
                message.bytes += bytes.len() as u64;
                self.check_pace(message)?;
                match &mut message.data {
                    Data::Instance(reception) => reception.write(bytes).await,
                    Data::Request(request) => request.write(bytes),
                    Data::Nowhere => {}
                }
                match open.take_if(|_| is_last) {
                    None => Ok(None),
                    Some(whole) => Ok(self.finish(whole.data, replies).await),
                }
            }
        }
    }

    fn data(&self, command: Command) -> Data {
        if command.is_response() {
            Data::Nowhere
        } else if Request::is(command.field) {
            Data::Request(Request::begin(command))
        } else {
            let reception = Reception::begin(command, &self.agreed, self.intake);
            Data::Instance(Box::new(reception))
        }
    }

    async fn finish(&self, data: Data, replies: &mut Replies) -> Option<(Command, Answer)> {
        match data {
            Data::Instance(reception) => {
                Some(reception.finish(&self.agreed, (&self.address, self.id), self.intake).await)
            }
            Data::Request(request) => {
                let it = request.finish(&self.agreed, &self.address, self.intake).await;
                if let Some(transaction) = it.transaction {
                    let until = Instant::now() + REPLY_WINDOW;
                    replies.waiting.push((it.command.context, transaction, until));
                }
                Some((it.command, it.answer))
            }
            Data::Nowhere => None,
        }
    }

    /// Waits for the answer to one of the transactions. Nothing, once none may be given here.
    async fn reply(
        &self,
        waiting: &mut Vec<(u8, String, Instant)>,
    ) -> Option<(u8, CommitmentResult)> {
        loop {
            waiting.retain(|(.., until)| *until > Instant::now());
            if waiting.is_empty() {
                return None;
            }
            for (context, transaction, _) in waiting.iter() {
                let peer = self.agreed.calling.as_str();
                if let Some(result) = self.intake.commitment_reply(peer, transaction).await {
                    let context = *context;
                    waiting.retain(|(_, it, _)| *it != result.transaction);
                    return Some((context, result));
                }
            }
            tokio::time::sleep(REPLY_POLL).await;
        }
    }

    /// Gives an answer; the peer's acknowledgement comes as a message of its own.
    async fn give(
        &self,
        stream: &mut PduStream,
        context: u8,
        result: &CommitmentResult,
        replies: &mut Replies,
    ) -> Result<(), AssociationError> {
        replies.last_id = replies.last_id.wrapping_add(1);
        let (id, wait) = (replies.last_id, self.timers.response);
        replies.given = Some((id, result.transaction.clone()));
        let syntax = self.agreed.contexts.iter().find(|(it, ..)| *it == context);
        let syntax = syntax.map_or("", |(.., it)| it.as_str());
        let (kind, data) = write_result(result, syntax);
        let command = Command::request(context, EVENT_REPORT, id, COMMITMENT, COMMITMENT_INSTANCE)
            .of_kind(kind);
        stream.send_bytes(&data_pdu(context, true, true, &command.to_bytes()), wait).await?;
        for pdu in data_pdus(context, self.agreed.send_bytes_max, &data) {
            stream.send_bytes(&pdu, wait).await?;
        }
        Ok(())
    }

    /// Takes in what the peer says to an answer of ours.
    async fn take_response(
        &self,
        command: &Command,
        replies: &mut Replies,
    ) -> Result<(), AssociationError> {
        let is_it = |(id, _): &mut (u16, String)| *id == command.message_id;
        let Some((_, transaction)) = replies.given.take_if(is_it) else {
            return Err(AssociationError::UnexpectedPdu);
        };
        let end = if command.status == Status::SUCCESS {
            ReportEnd::Reported
        } else {
            ReportEnd::NotReported(format!("the peer answered {:#06x}", command.status.0))
        };
        self.intake.end_commitment(self.agreed.calling.as_str(), &transaction, end).await;
        Ok(())
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
