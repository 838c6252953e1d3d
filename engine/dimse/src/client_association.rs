//! Associations that the engine opens, as service class user (PS3.7, PS3.8).
//!
//! [`Remote`] names a peer, `Remote::associate` opens an association with it, and
//! [`ClientAssociation`] sends requests on it and reads the responses.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use contracts::SendError;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex as _, TransferSyntaxRegistry};
use dicom_ul::pdu::{
    AssociationRJResult, AssociationRQ, Pdu, PresentationContextProposed,
    PresentationContextResultReason, RequestorRoles, UserVariableItem,
};
use domain::{AeTitle, ErrorChain};
use encoding::dicom::file_meta::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use encoding::dicom::rewriting::RewriteError;
use tokio::net::TcpStream;

use crate::commitment_data::BYTES_MAX;
use crate::config::Timers;
use crate::message::{Assembler, Command, MessageError, Status, Step, fragments};
use crate::negotiation::{APPLICATION_CONTEXT, send_bytes_max};
use crate::pdu_stream::{PduError, PduKind, PduStream, data_pdu, data_pdus};
use crate::presentation_context::{PresentationContext, ProposedContext, Role};
use crate::transfer_syntax::{EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN};

/// Longest PDU that is accepted from the peer.
const RECEIVE_BYTES_MAX: u32 = 128 * 1024;

/// Longest wait for a connection (DIN-15).
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// A peer that the engine opens associations to.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Host name or address, and port.
    pub address: String,
    /// AE title of the peer.
    pub called: AeTitle,
    /// Our own AE title.
    pub calling: AeTitle,
    /// How long to wait for what.
    pub timers: Timers,
}

/// Why a request of ours failed.
#[derive(Debug, thiserror::Error)]
pub enum ScuError {
    /// No connection could be opened.
    #[error("cannot connect to {address}")]
    Connect {
        /// Host and port of the peer.
        address: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The connection broke, or what came over it was no PDU.
    #[error("the association broke")]
    Pdu(#[from] PduError),
    /// The response of the peer is no valid message.
    #[error("the answer cannot be read")]
    Message(#[from] MessageError),
    /// The peer rejected the association.
    #[error("the association was refused: {reason}")]
    Refused {
        /// The reason that the peer gives.
        reason: String,
        /// Whether the peer calls the rejection transient: another attempt may succeed.
        is_transient: bool,
    },
    /// The peer aborted the association.
    #[error("the peer aborted the association")]
    Aborted,
    /// The peer accepts no presentation context that the object or request could be sent on.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
    /// The peer answered with a failure.
    #[error("the peer answered with status {status:#06x} {comment}")]
    Status {
        /// Status (0000,0900).
        status: u16,
        /// Error Comment (0000,0902).
        comment: String,
    },
    /// The bytes to be sent are no DICOM file with a File Meta group that the engine can read.
    #[error("this is not a DICOM file that can be sent")]
    NotAFile,
    /// The object cannot be written in the only transfer syntax that the peer accepts.
    #[error("{sop_instance} cannot be written in Implicit VR Little Endian")]
    NotWritten {
        /// SOP Instance UID.
        sop_instance: String,
        /// Why not.
        source: RewriteError,
    },
}

/// What was proposed for a SOP class, and what the peer accepted of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer does not accept the SOP class {sop_class} in a transfer syntax that we can send: \
     proposed {}; accepted {}",
    names(.proposed),
    names(.accepted)
)]
pub struct NotAccepted {
    /// UID of the SOP class.
    pub sop_class: String,
    /// UIDs of the transfer syntaxes that were proposed for it.
    pub proposed: Vec<String>,
    /// UIDs of the transfer syntaxes that were accepted.
    pub accepted: Vec<String>,
}

/// Names of transfer syntaxes (PS3.6, Table A-1), for people.
fn names(transfer_syntaxes: &[String]) -> String {
    if transfer_syntaxes.is_empty() {
        return "none".to_owned();
    }
    let names = transfer_syntaxes
        .iter()
        .map(|uid| TransferSyntaxRegistry.get(uid).map_or(uid.as_str(), |it| it.name()));
    names.collect::<Vec<&str>>().join(", ")
}

impl From<ScuError> for SendError {
    fn from(error: ScuError) -> Self {
        let text = ErrorChain(&error).to_string();
        let is_retryable = match &error {
            ScuError::Refused { is_transient, .. } => *is_transient,
            ScuError::Status { status, .. } => Status(*status).is_transient(),
            ScuError::NotAccepted(_) | ScuError::NotAFile | ScuError::NotWritten { .. } => false,
            ScuError::Connect { .. }
            | ScuError::Pdu(_)
            | ScuError::Message(_)
            | ScuError::Aborted => true,
        };
        if is_retryable { Self::Retryable(text) } else { Self::Refused(text) }
    }
}

/// An open association of ours.
pub(crate) struct ClientAssociation {
    stream: PduStream,
    pub(crate) timers: Timers,
    /// The presentation contexts that were proposed.
    proposed: BTreeSet<ProposedContext>,
    /// Those that the peer accepted.
    contexts: Vec<PresentationContext>,
    /// Longest PDU that the peer accepts.
    send_bytes_max: u32,
    last_message_id: u16,
    /// When the last request was sent.
    pub(crate) last_used: Instant,
}

/// One SOP class in both uncompressed transfer syntaxes, which every peer can handle.
pub(crate) fn uncompressed(sop_class: &str, role: Role) -> impl Iterator<Item = ProposedContext> {
    [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN].into_iter().map(move |transfer_syntax| {
        ProposedContext {
            abstract_syntax: sop_class.to_owned(),
            transfer_syntax: transfer_syntax.to_owned(),
            role,
        }
    })
}

impl Remote {
    /// Opens an association with these presentation contexts.
    pub(crate) async fn associate(
        &self,
        proposed: &BTreeSet<ProposedContext>,
    ) -> Result<ClientAssociation, ScuError> {
        let mut stream = PduStream::new(self.connect().await?, RECEIVE_BYTES_MAX);
        // 128 ids, all odd (PS3.8, 7.1.1.13).
        let contexts: Vec<PresentationContext> =
            proposed.iter().zip((1..=255).step_by(2)).map(with_id).collect();
        stream.send(&self.association_request(&contexts), self.timers.response).await?;
        let (kind, bytes) = stream.next(self.timers.response).await?;
        let answer = dicom_ul::pdu::read_pdu(bytes, RECEIVE_BYTES_MAX, false).ok().flatten();
        let accepted = match (kind, answer) {
            (PduKind::AssociateAc, Some(Pdu::AssociationAC(accepted))) => accepted,
            (PduKind::AssociateRj, Some(Pdu::AssociationRJ(rejection))) => {
                let is_transient = rejection.result == AssociationRJResult::Transient;
                let reason = rejection.source.to_string();
                return Err(ScuError::Refused { reason, is_transient });
            }
            _ => return Err(ScuError::Aborted),
        };
        let accepted_ids: BTreeSet<u8> = accepted
            .presentation_contexts
            .iter()
            .filter(|it| it.reason == PresentationContextResultReason::Acceptance)
            .map(|it| it.id)
            .collect();
        let peer_max = accepted.user_variables.iter().find_map(|item| match item {
            UserVariableItem::MaxLength(length) => Some(*length),
            _ => None,
        });
        Ok(ClientAssociation {
            stream,
            timers: self.timers,
            proposed: proposed.clone(),
            contexts: contexts.into_iter().filter(|it| accepted_ids.contains(&it.id)).collect(),
            send_bytes_max: send_bytes_max(peer_max),
            last_message_id: 0,
            last_used: Instant::now(),
        })
    }

    async fn connect(&self) -> Result<TcpStream, ScuError> {
        let connect = TcpStream::connect(&self.address);
        let connected = match tokio::time::timeout(CONNECT_WAIT, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        connected.map_err(|source| ScuError::Connect { address: self.address.clone(), source })
    }

    fn association_request(&self, contexts: &[PresentationContext]) -> Pdu {
        let provided: BTreeSet<&str> = contexts
            .iter()
            .filter(|it| it.role == Role::Scp)
            .map(|it| it.abstract_syntax.as_str())
            .collect();
        let mut user_variables = vec![
            UserVariableItem::MaxLength(RECEIVE_BYTES_MAX),
            UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
            UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
        ];
        user_variables.extend(provided.into_iter().map(|sop_class| {
            let roles = RequestorRoles { scu: false, scp: true };
            UserVariableItem::ScuScpRoleSelectionSubItem(sop_class.to_owned(), roles)
        }));
        Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: self.calling.to_string(),
            called_ae_title: self.called.to_string(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: contexts.iter().map(proposal).collect(),
            user_variables,
        })
    }
}

fn with_id((proposed, id): (&ProposedContext, u8)) -> PresentationContext {
    PresentationContext {
        id,
        abstract_syntax: proposed.abstract_syntax.clone(),
        transfer_syntax: proposed.transfer_syntax.clone(),
        role: proposed.role,
    }
}

fn proposal(context: &PresentationContext) -> PresentationContextProposed {
    PresentationContextProposed {
        id: context.id,
        abstract_syntax: context.abstract_syntax.clone(),
        transfer_syntaxes: vec![context.transfer_syntax.clone()],
    }
}

/// Fails unless the response is success or a warning.
pub(crate) fn check(response: &Command) -> Result<(), ScuError> {
    if response.status.is_success_or_warning() {
        return Ok(());
    }
    Err(ScuError::Status { status: response.status.0, comment: response.comment.clone() })
}

/// A message of the peer: its command, and its data set or nothing.
pub(crate) struct Message {
    pub(crate) command: Command,
    pub(crate) data_set: Vec<u8>,
}

impl ClientAssociation {
    /// The presentation context for a SOP class, in this transfer syntax or in any.
    pub(crate) fn context(
        &self,
        sop_class: &str,
        transfer_syntax: Option<&str>,
    ) -> Result<&PresentationContext, ScuError> {
        let context = self.contexts.iter().find(|context| {
            context.abstract_syntax == sop_class
                && transfer_syntax.is_none_or(|it| it == context.transfer_syntax)
        });
        context.ok_or_else(|| self.not_accepted(sop_class).into())
    }

    /// What was proposed for a SOP class, and what of it was accepted.
    fn not_accepted(&self, sop_class: &str) -> NotAccepted {
        let proposed = self.proposed.iter().filter(|it| it.abstract_syntax == sop_class);
        let accepted = self.contexts.iter().filter(|it| it.abstract_syntax == sop_class);
        NotAccepted {
            sop_class: sop_class.to_owned(),
            proposed: proposed.map(|it| it.transfer_syntax.clone()).collect(),
            accepted: accepted.map(|it| it.transfer_syntax.clone()).collect(),
        }
    }

    /// Sends a request, whose Message ID is filled in, and returns the response.
    pub(crate) async fn request(
        &mut self,
        mut request: Command,
        data_set: &[u8],
    ) -> Result<Command, ScuError> {
        self.last_message_id = self.last_message_id.wrapping_add(1);
        request.message_id = self.last_message_id;
        self.send(&request, data_set).await?;
        self.last_used = Instant::now();
        // A peer may have to store a large object before it responds.
        let response = self.receive(self.timers.inactivity).await?.command;
        let is_response =
            response.field == request.field.response() && response.message_id == request.message_id;
        if is_response { Ok(response) } else { Err(MessageError::OutOfOrder.into()) }
    }

    /// Sends a command and its data set, if it has one.
    pub(crate) async fn send(
        &mut self,
        command: &Command,
        data_set: &[u8],
    ) -> Result<(), ScuError> {
        let wait = self.timers.response;
        let pdu = data_pdu(command.context_id, true, true, &command.to_bytes());
        self.stream.send_bytes(&pdu, wait).await?;
        for pdu in data_pdus(command.context_id, self.send_bytes_max, data_set) {
            self.stream.send_bytes(&pdu, wait).await?;
        }
        Ok(())
    }

    /// Receives the next message of the peer.
    pub(crate) async fn receive(&mut self, wait: Duration) -> Result<Message, ScuError> {
        let mut assembler = Assembler::default();
        let mut received: Option<Command> = None;
        let mut data_set = Vec::new();
        loop {
            let (kind, pdu) = self.stream.next(wait).await?;
            if kind != PduKind::Data {
                return Err(ScuError::Aborted);
            }
            for fragment in fragments(pdu)? {
                match assembler.push(fragment)? {
                    Step::Incomplete => {}
                    Step::Command(command) if command.has_data_set => received = Some(command),
                    Step::Command(command) => return Ok(Message { command, data_set }),
                    Step::Data { bytes, is_last } => {
                        if data_set.len() + bytes.len() > BYTES_MAX {
                            return Err(MessageError::TooLong.into());
                        }
                        data_set.extend_from_slice(bytes);
                        if let Some(command) = received.take_if(|_| is_last) {
                            return Ok(Message { command, data_set });
                        }
                    }
                }
            }
        }
    }

    /// Releases the association and waits for the peer to close the connection.
    pub(crate) async fn release(mut self) {
        let wait = self.timers.response;
        // Whatever the peer answers now, what it acknowledged stays acknowledged.
        if self.stream.send(&Pdu::ReleaseRQ, wait).await.is_ok()
            && self.stream.next(wait).await.is_ok()
        {
            self.stream.wait_for_close(Duration::from_millis(200)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_is_not_accepted_is_told_with_what_was_proposed_and_accepted() {
        let jpeg = "1.2.840.10008.1.2.4.70".to_owned();
        let refused = NotAccepted {
            sop_class: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            proposed: vec![IMPLICIT_LITTLE_ENDIAN.to_owned(), jpeg, "1.2.3".to_owned()],
            accepted: vec![IMPLICIT_LITTLE_ENDIAN.to_owned()],
        };
        let text = refused.to_string();
        assert!(text.contains("Implicit VR Little Endian, JPEG Lossless"), "{text}");
        assert!(text.ends_with(", 1.2.3; accepted Implicit VR Little Endian"), "{text}");
        let none = NotAccepted { accepted: Vec::new(), ..refused };
        assert!(none.to_string().ends_with("accepted none"), "{none}");
    }
}
