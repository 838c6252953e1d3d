//! Asks of others: C-ECHO and C-STORE as service class user (PS3.4, Annexes A and B).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use contracts::{Destination, DestinationKind, Output, SendError};
use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResultReason,
    UserVariableItem,
};
use domain::{AeTitle, ErrorChain};
use encoding::file_meta::{self, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::config::Timers;
use crate::message::{Assembler, Command, ECHO, MessageError, STORE, Status, Step, fragments};
use crate::negotiation::{
    APPLICATION_CONTEXT, EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, send_bytes_max,
};
use crate::pdu_stream::{Kind, PduError, PduStream, data_pdu};
use crate::sop_class::VERIFICATION;

/// How long an association is kept open for the next report.
const KEPT_OPEN: Duration = Duration::from_secs(20);

/// Longest PDU we take as an answer.
const ANSWER_BYTES_MAX: u32 = 128 * 1024;

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

/// A DICOM file, split into what the wire needs.
struct Object<'a> {
    sop_class: &'a str,
    sop_instance: &'a str,
    transfer_syntax: String,
    data_set: &'a [u8],
}

/// An open association of ours.
struct Conversation {
    stream: PduStream,
    timers: Timers,
    /// Context, abstract syntax, transfer syntax.
    contexts: Vec<(u8, String, String)>,
    send_bytes_max: u32,
    last_id: u16,
    used: Instant,
}

impl Remote {
    /// Asks whether somebody is there.
    ///
    /// # Errors
    ///
    /// Says why nobody answers as should be.
    pub async fn echo(&self) -> Result<(), ScuError> {
        let both = [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN];
        let wanted = both.map(|it| (VERIFICATION.to_owned(), it.to_owned())).into();
        let mut conversation = self.associate(&wanted).await?;
        let context = conversation.context(VERIFICATION, None)?;
        let response = conversation.ask(context, ECHO, VERIFICATION, "", &[]).await?;
        conversation.release().await;
        check(&response)
    }

    /// Sends files with one association.
    ///
    /// # Errors
    ///
    /// Stops at the first file that was not taken, and says why.
    pub async fn store(&self, files: &[&[u8]]) -> Result<(), ScuError> {
        let objects: Option<Vec<_>> = files.iter().map(|it| object(it)).collect();
        let objects = objects.ok_or(ScuError::NotAFile)?;
        let mut conversation = self.associate(&wanted(&objects)).await?;
        for object in &objects {
            conversation.store(object).await?;
        }
        conversation.release().await;
        Ok(())
    }

    async fn associate(
        &self,
        wanted: &BTreeSet<(String, String)>,
    ) -> Result<Conversation, ScuError> {
        let connect = TcpStream::connect(&self.address);
        let connected = match tokio::time::timeout(Duration::from_secs(10), connect).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        let stream = connected
            .map_err(|source| ScuError::Connect { address: self.address.clone(), source })?;
        let mut stream = PduStream::new(stream, ANSWER_BYTES_MAX);
        let proposed: Vec<_> = wanted.iter().zip((1..=255).step_by(2)).map(proposal).collect();
        stream.send(&self.request(&proposed), self.timers.response).await?;
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
            let is_it = |it: &&dicom_ul::pdu::PresentationContextResult| {
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

    fn request(&self, proposed: &[PresentationContextProposed]) -> Pdu {
        Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: self.calling.to_string(),
            called_ae_title: self.called.to_string(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: proposed.to_vec(),
            user_variables: vec![
                UserVariableItem::MaxLength(ANSWER_BYTES_MAX),
                UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
                UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
            ],
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

fn wanted(objects: &[Object<'_>]) -> BTreeSet<(String, String)> {
    objects.iter().map(|it| (it.sop_class.to_owned(), it.transfer_syntax.clone())).collect()
}

fn object(file: &[u8]) -> Option<Object<'_>> {
    let (start, transfer_syntax) = file_meta::split(file)?;
    let (meta, data_set) = file.split_at_checked(start)?;
    let value = |number: u8| {
        let at = meta.windows(6).position(|it| it == [2, 0, number, 0, b'U', b'I'])?;
        let (length, rest) = meta.get(at + 6..)?.split_first_chunk::<2>()?;
        let text = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
        Some(std::str::from_utf8(text).ok()?.trim_end_matches('\0'))
    };
    Some(Object { sop_class: value(2)?, sop_instance: value(3)?, transfer_syntax, data_set })
}

fn check(response: &Command) -> Result<(), ScuError> {
    if response.status.is_kept() {
        return Ok(());
    }
    let (status, comment) = (response.status.0, response.comment.clone());
    Err(ScuError::Status { status, comment })
}

impl Conversation {
    fn context(&self, class: &str, syntax: Option<&str>) -> Result<u8, ScuError> {
        let is_it = |it: &&(u8, String, String)| it.1 == class && syntax.is_none_or(|s| s == it.2);
        let context = self.contexts.iter().find(is_it);
        context.map(|it| it.0).ok_or_else(|| ScuError::NotAccepted(class.to_owned()))
    }

    async fn store(&mut self, object: &Object<'_>) -> Result<(), ScuError> {
        let context = self.context(object.sop_class, Some(&object.transfer_syntax))?;
        let (class, instance) = (object.sop_class, object.sop_instance);
        let response = self.ask(context, STORE, class, instance, object.data_set).await?;
        check(&response)
    }

    async fn ask(
        &mut self,
        context: u8,
        field: u16,
        class: &str,
        instance: &str,
        data_set: &[u8],
    ) -> Result<Command, ScuError> {
        self.last_id = self.last_id.wrapping_add(1);
        let command = Command::request(context, field, self.last_id, class, instance);
        let wait = self.timers.response;
        self.stream.send_bytes(&data_pdu(context, true, true, &command.to_bytes()), wait).await?;
        // Twelve bytes of headers; fragments have an even length (PS3.8, D.1).
        let size = (usize::try_from(self.send_bytes_max).unwrap_or(1024) - 12) & !1;
        let count = data_set.chunks(size).count();
        for (index, piece) in data_set.chunks(size).enumerate() {
            let pdu = data_pdu(context, false, index + 1 == count, piece);
            self.stream.send_bytes(&pdu, wait).await?;
        }
        self.used = Instant::now();
        self.response(&command).await
    }

    async fn response(&mut self, request: &Command) -> Result<Command, ScuError> {
        let mut assembler = Assembler::default();
        loop {
            // A peer may have to put a large object in its place before it answers.
            let (kind, pdu) = self.stream.next(self.timers.inactivity).await?;
            if kind != Kind::Data {
                return Err(ScuError::Aborted);
            }
            for fragment in fragments(pdu)? {
                if let Step::Command(command) = assembler.push(fragment)? {
                    let is_answer = command.field == request.answer(Status::SUCCESS, "").field
                        && command.message_id == request.message_id;
                    return if is_answer {
                        Ok(command)
                    } else {
                        Err(MessageError::OutOfOrder.into())
                    };
                }
            }
        }
    }

    async fn release(mut self) {
        let wait = self.timers.response;
        // Whatever the peer says now, what it acknowledged stays acknowledged.
        if self.stream.send(&Pdu::ReleaseRQ, wait).await.is_ok()
            && self.stream.next(wait).await.is_ok()
        {
            self.stream.wait_for_close(Duration::from_millis(200)).await;
        }
    }
}

/// A PACS that takes reports. Keeps its association open for the next one.
pub struct DicomDestination {
    remote: Remote,
    open: Mutex<Option<Conversation>>,
}

impl DicomDestination {
    /// A destination at `remote`.
    pub fn new(remote: Remote) -> Self {
        Self { remote, open: Mutex::new(None) }
    }

    async fn conversation(&self, objects: &[Object<'_>]) -> Result<Conversation, ScuError> {
        let kept = self.open.lock().await.take();
        if let Some(kept) = kept {
            let fits =
                |it: &Object<'_>| kept.context(it.sop_class, Some(&it.transfer_syntax)).is_ok();
            if kept.used.elapsed() < KEPT_OPEN && objects.iter().all(fits) {
                return Ok(kept);
            }
            kept.release().await;
        }
        self.remote.associate(&wanted(objects)).await
    }
}

#[async_trait]
impl Destination for DicomDestination {
    fn kind(&self) -> DestinationKind {
        DestinationKind::Dicom
    }

    async fn send(&self, _: &str, outputs: &[Output]) -> Result<(), SendError> {
        let objects: Option<Vec<_>> = outputs.iter().map(|it| object(&it.bytes)).collect();
        let objects = objects.ok_or(ScuError::NotAFile)?;
        let mut conversation = self.conversation(&objects).await?;
        for object in &objects {
            conversation.store(object).await?;
        }
        // Deliveries go side by side: one association is kept, the others are released.
        let before = self.open.lock().await.replace(conversation);
        if let Some(before) = before {
            before.release().await;
        }
        Ok(())
    }
}
