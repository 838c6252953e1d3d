//! Associations of our own: asking others (PS3.7, PS3.8).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use contracts::SendError;
use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, RequestorRoles, UserVariableItem,
};
use domain::{AeTitle, ErrorChain};
use encoding::file_meta::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use tokio::net::TcpStream;

use crate::commitment_data::BYTES_MAX;
use crate::config::Timers;
use crate::message::{Assembler, Command, MessageError, Status, Step, fragments};
use crate::negotiation::{
    APPLICATION_CONTEXT, EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, send_bytes_max,
};
use crate::pdu_stream::{Kind, PduError, PduStream, data_pdu, data_pdus};

/// Longest PDU we take as an answer.
const ANSWER_BYTES_MAX: u32 = 128 * 1024;

/// Longest wait for a connection (DIN-15).
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Abstract syntax and transfer syntax of each presentation context to propose.
pub(crate) type Wanted = BTreeSet<(String, String)>;

/// Somebody who takes DICOM.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Host name or address, and port.
    pub address: String,
    /// Its name.
    pub called: AeTitle,
    /// Our name.
    pub calling: AeTitle,
    /// How long to wait.
    pub timers: Timers,
}

/// Why asking did not help.
#[derive(Debug, thiserror::Error)]
pub enum ScuError {
    /// Nobody is there.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection failed.
    #[error("the association broke")]
    Pdu(#[from] PduError),
    /// The answer is no message.
    #[error("the answer cannot be read")]
    Message(#[from] MessageError),
    /// We may not come in.
    #[error("the association was refused: {reason}")]
    Refused {
        /// What the peer says.
        reason: String,
        /// Whether it may be otherwise later.
        is_passing: bool,
    },
    /// The peer gave up.
    #[error("the peer aborted the association")]
    Aborted,
    /// The peer does not take this kind of object.
    #[error("the peer does not accept objects of the SOP class {0} in the transfer syntax we have")]
    NotAccepted(String),
    /// The peer did not do what was asked.
    #[error("the peer answered with status {status:#06x} {comment}")]
    Status {
        /// Its status.
        status: u16,
        /// Its words.
        comment: String,
    },
    /// What is to be sent is no DICOM file of ours.
    #[error("this is not a DICOM file that can be sent")]
    NotAFile,
}

impl From<ScuError> for SendError {
    fn from(error: ScuError) -> Self {
        let text = ErrorChain(&error).to_string();
        let is_passing = match &error {
            ScuError::Refused { is_passing, .. } => *is_passing,
            ScuError::Status { status, .. } => Status(*status).is_passing(),
            ScuError::NotAccepted(_) | ScuError::NotAFile => false,
            _ => true,
        };
        if is_passing { Self::Retryable(text) } else { Self::Refused(text) }
    }
}

/// An open association of ours.
pub(crate) struct Conversation {
    stream: PduStream,
    pub(crate) timers: Timers,
    /// Context, abstract syntax, transfer syntax.
    contexts: Vec<(u8, String, String)>,
    send_bytes_max: u32,
    last_id: u16,
    pub(crate) used: Instant,
}

/// One class in the two syntaxes everybody has.
pub(crate) fn plainly(class: &str) -> impl Iterator<Item = (String, String)> {
    let both = [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN];
    both.into_iter().map(move |syntax| (class.to_owned(), syntax.to_owned()))
}

impl Remote {
    /// Opens an association. For the classes in `providing` we are the provider (DIN-09).
    pub(crate) async fn associate(
        &self,
        wanted: &Wanted,
        providing: &[&str],
    ) -> Result<Conversation, ScuError> {
        let connect = TcpStream::connect(&self.address);
        let connected = match tokio::time::timeout(CONNECT_WAIT, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        let stream = connected
            .map_err(|source| ScuError::Connect { address: self.address.clone(), source })?;
        let mut stream = PduStream::new(stream, ANSWER_BYTES_MAX);
        let proposed: Vec<_> = wanted.iter().zip((1..=255).step_by(2)).map(proposal).collect();
        stream.send(&self.request(&proposed, providing), self.timers.response).await?;
        let (kind, bytes) = stream.next(self.timers.response).await?;
        let answer = dicom_ul::pdu::read_pdu(bytes, ANSWER_BYTES_MAX, false).ok().flatten();
        let accepted = match (kind, answer) {
            (Kind::AssociateAc, Some(Pdu::AssociationAC(accepted))) => accepted,
            (Kind::AssociateRj, Some(Pdu::AssociationRJ(refusal))) => {
                let is_passing = refusal.result == dicom_ul::pdu::AssociationRJResult::Transient;
                return Err(ScuError::Refused { reason: refusal.source.to_string(), is_passing });
            }
            _ => return Err(ScuError::Aborted),
        };
        let accepts = |id: u8| {
            let is_it = |it: &&PresentationContextResult| {
                it.id == id && it.reason == PresentationContextResultReason::Acceptance
            };
            accepted.presentation_contexts.iter().any(|it| is_it(&it))
        };
        let contexts = proposed.iter().filter(|it| accepts(it.id)).map(agreed).collect();
        let peer_max = accepted.user_variables.iter().find_map(|it| match it {
            UserVariableItem::MaxLength(length) => Some(*length),
            _ => None,
        });
        let (timers, used, last_id) = (self.timers, Instant::now(), 0);
        let send_bytes_max = send_bytes_max(peer_max);
        Ok(Conversation { stream, timers, contexts, send_bytes_max, last_id, used })
    }

    fn request(&self, proposed: &[PresentationContextProposed], providing: &[&str]) -> Pdu {
        let mut user_variables = vec![
            UserVariableItem::MaxLength(ANSWER_BYTES_MAX),
            UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
            UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
        ];
        user_variables.extend(providing.iter().map(|class| {
            let roles = RequestorRoles { scu: false, scp: true };
            UserVariableItem::ScuScpRoleSelectionSubItem((*class).to_owned(), roles)
        }));
        Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: self.calling.to_string(),
            called_ae_title: self.called.to_string(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: proposed.to_vec(),
            user_variables,
        })
    }
}

fn proposal(((class, syntax), id): (&(String, String), u8)) -> PresentationContextProposed {
    let (abstract_syntax, transfer_syntaxes) = (class.clone(), vec![syntax.clone()]);
    PresentationContextProposed { id, abstract_syntax, transfer_syntaxes }
}

/// Each proposal names one transfer syntax, so its acceptance is acceptance of that one.
fn agreed(proposed: &PresentationContextProposed) -> (u8, String, String) {
    let syntax = proposed.transfer_syntaxes.first().cloned().unwrap_or_default();
    (proposed.id, proposed.abstract_syntax.clone(), syntax)
}

/// Fails unless what was asked for is done.
pub(crate) fn check(response: &Command) -> Result<(), ScuError> {
    if response.status.is_kept() {
        return Ok(());
    }
    let (status, comment) = (response.status.0, response.comment.clone());
    Err(ScuError::Status { status, comment })
}

impl Conversation {
    /// The context for a class, in this transfer syntax or in any, and its transfer syntax.
    pub(crate) fn context(
        &self,
        class: &str,
        syntax: Option<&str>,
    ) -> Result<(u8, String), ScuError> {
        let is_it = |it: &&(u8, String, String)| it.1 == class && syntax.is_none_or(|s| s == it.2);
        let context = self.contexts.iter().find(is_it);
        let context = context.map(|it| (it.0, it.2.clone()));
        context.ok_or_else(|| ScuError::NotAccepted(class.to_owned()))
    }

    /// Sends a request, whose number is filled in, and gives the answer.
    pub(crate) async fn ask(
        &mut self,
        mut request: Command,
        data_set: &[u8],
    ) -> Result<Command, ScuError> {
        self.last_id = self.last_id.wrapping_add(1);
        request.message_id = self.last_id;
        self.say(&request, data_set).await?;
        self.used = Instant::now();
        // A peer may have to put a large object in its place before it answers.
        let (answer, _) = self.hear(self.timers.inactivity).await?;
        let is_answer = answer.field == request.answer(Status::SUCCESS, "").field
            && answer.message_id == request.message_id;
        if is_answer { Ok(answer) } else { Err(MessageError::OutOfOrder.into()) }
    }

    /// Sends a command, and a data set if it has one.
    pub(crate) async fn say(&mut self, command: &Command, data_set: &[u8]) -> Result<(), ScuError> {
        let (context, wait) = (command.context, self.timers.response);
        self.stream.send_bytes(&data_pdu(context, true, true, &command.to_bytes()), wait).await?;
        for pdu in data_pdus(context, self.send_bytes_max, data_set) {
            self.stream.send_bytes(&pdu, wait).await?;
        }
        Ok(())
    }

    /// The next message of the peer, with its data set.
    pub(crate) async fn hear(&mut self, wait: Duration) -> Result<(Command, Vec<u8>), ScuError> {
        let mut assembler = Assembler::default();
        let mut heard: Option<Command> = None;
        let mut data_set = Vec::new();
        loop {
            let (kind, pdu) = self.stream.next(wait).await?;
            if kind != Kind::Data {
                return Err(ScuError::Aborted);
            }
            for fragment in fragments(pdu)? {
                match assembler.push(fragment)? {
                    Step::Wait => {}
                    Step::Command(command) if command.has_data_set => heard = Some(command),
                    Step::Command(command) => return Ok((command, data_set)),
                    Step::Data { bytes, is_last } => {
                        if data_set.len() + bytes.len() > BYTES_MAX {
                            return Err(MessageError::TooLong.into());
                        }
                        data_set.extend_from_slice(bytes);
                        if let Some(command) = heard.take_if(|_| is_last) {
                            return Ok((command, data_set));
                        }
                    }
                }
            }
        }
    }

    pub(crate) async fn release(mut self) {
        let wait = self.timers.response;
        // Whatever the peer says now, what it acknowledged stays acknowledged.
        if self.stream.send(&Pdu::ReleaseRQ, wait).await.is_ok()
            && self.stream.next(wait).await.is_ok()
        {
            self.stream.wait_for_close(Duration::from_millis(200)).await;
        }
    }
}
