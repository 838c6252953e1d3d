//! Sends messages over MLLP and waits for their acknowledgements (HL7-14).
//!
//! A message is delivered only by a positive acknowledgement that names it. Whatever else comes
//! back is told as what it is, and the reasons of the peer are retained.

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use contracts::{Destination, Output, Preferences, ProbeError, SendError, Sent};
use domain::{ErrorChain, OutputFormat, OutputKind};
use encoding::hl7::charset::{CharsetError, Hl7Charset};
use jiff::Zoned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::acknowledgement::AcknowledgementCode;
use crate::frame::{Decoder, Frame, Garbage, RETURN_WAIT, framed};
use crate::message::{Message, Problem, Segment};

/// Longest wait for an acknowledgement.
const ACKNOWLEDGEMENT_WAIT: Duration = Duration::from_secs(30);

/// Longest wait for more after bytes outside of any frame: what answers so does not speak MLLP.
const UNFRAMED_WAIT: Duration = Duration::from_secs(2);

/// Longest text of a peer that is quoted, in characters.
const QUOTED_MAX: usize = 500;

/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum MllpError {
    /// No connection could be opened.
    #[error("cannot connect to {address}")]
    Connect {
        /// Host and port of the peer.
        address: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// No acknowledgement came in time.
    #[error("no acknowledgement came in time")]
    Silent,
    /// The peer closed before it acknowledged.
    #[error("the peer closed the connection before it acknowledged")]
    Closed,
    /// The peer began an acknowledgement and did not end it.
    #[error("the acknowledgement was not ended (no 0x1C)")]
    Unfinished,
    /// The answer is not MLLP.
    #[error("the peer does not speak MLLP")]
    Garbage(#[from] Garbage),
    /// The answer is in no frame: it has no start block character.
    #[error("the peer answered outside of MLLP (no 0x0B): `{0}`")]
    Unframed(String),
    /// The answer is our own message.
    #[error("the peer sent our own message back instead of an acknowledgement")]
    Echo,
    /// The answer has no MSA segment.
    #[error("the answer is no acknowledgement: it has no MSA segment")]
    NoAcknowledgement,
    /// The answer is no message.
    #[error("the acknowledgement cannot be read")]
    Unreadable(#[from] Problem),
    /// The acknowledgement refers to another message (MSA-2).
    #[error("the acknowledgement is of another message (MSA-2 `{0}`)")]
    Mismatch(String),
    /// The peer did not accept the message.
    #[error("the peer answered {code}{}", because(.text))]
    NotAccepted {
        /// MSA-1.
        code: String,
        /// Why, as MSA-3 and the ERR segments state it; empty if they state nothing.
        text: String,
    },
    /// The character set of the destination lacks a character of the message.
    #[error("the message cannot be written")]
    Charset(#[from] CharsetError),
}

/// A reason as the end of a sentence, if there is one.
fn because(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl From<MllpError> for SendError {
    fn from(error: MllpError) -> Self {
        let text = ErrorChain(&error).to_string();
        match &error {
            MllpError::NotAccepted { code, .. } => match AcknowledgementCode::parse(code) {
                Some(
                    AcknowledgementCode::ApplicationReject | AcknowledgementCode::CommitReject,
                ) => Self::Refused(text),
                _ => Self::NotApplied(text),
            },
            MllpError::Charset(_) => Self::Refused(text),
            // The peer has read something and acknowledges nothing: it will not learn to by itself,
            // and gets the message again with every attempt.
            MllpError::Garbage(_)
            | MllpError::Unframed(_)
            | MllpError::Echo
            | MllpError::NoAcknowledgement => Self::NotApplied(text),
            MllpError::Connect { .. }
            | MllpError::Io(_)
            | MllpError::Silent
            | MllpError::Closed
            | MllpError::Unfinished
            | MllpError::Unreadable(_)
            | MllpError::Mismatch(_) => Self::Retryable(text),
        }
    }
}

/// An EHR that accepts messages. Its connection is held open for the next one.
pub struct MllpDestination {
    address: String,
    charset: Hl7Charset,
    preferences: Preferences,
    open: Mutex<Option<TcpStream>>,
}

impl MllpDestination {
    /// A destination at `address` that reads `charset`.
    pub fn new(address: String, charset: Hl7Charset) -> Self {
        Self { address, charset, preferences: Preferences::default(), open: Mutex::new(None) }
    }

    /// The same destination, with messages written as it prefers.
    #[must_use]
    pub fn with_preferences(self, preferences: Preferences) -> Self {
        Self { preferences, ..self }
    }

    /// Sends a message and returns its acknowledgement.
    ///
    /// # Errors
    ///
    /// Fails if the message was not delivered, or may not have been.
    pub async fn exchange(&self, message: &str) -> Result<Message, MllpError> {
        let bytes = self.charset.encode(message)?;
        // Locked until the acknowledgement arrives: they come in the order of the messages.
        let mut open = self.open.lock().await;
        if let Some(stream) = open.as_mut()
            && is_closed(stream)
        {
            *open = None;
        }
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let answer = send_and_receive(&mut stream, &bytes).await?;
        *open = Some(stream);
        Ok(Message::parse(&answer, self.charset)?)
    }

    async fn connect(&self) -> Result<TcpStream, MllpError> {
        let connected = match timeout(CONNECT_WAIT, TcpStream::connect(&self.address)).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        let stream = connected
            .map_err(|source| MllpError::Connect { address: self.address.clone(), source })?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn send_one(&self, message: &str) -> Result<(), MllpError> {
        let answer = self.exchange(message).await?;
        let control_id = control_id(message);
        let msa = acknowledgement(&answer, control_id)?;
        let acknowledged = answer.value(msa, 2, 1);
        if acknowledged != control_id {
            return Err(MllpError::Mismatch(quoted(&acknowledged)));
        }
        let code = answer.value(msa, 1, 1);
        match AcknowledgementCode::parse(&code) {
            Some(AcknowledgementCode::ApplicationAccept | AcknowledgementCode::CommitAccept) => {
                Ok(())
            }
            _ => Err(MllpError::NotAccepted { code: quoted(&code), text: reasons(&answer, msa) }),
        }
    }
}

/// MSH-10 of a message of ours, whose delimiters are the recommended ones.
fn control_id(message: &str) -> &str {
    message.split('\r').next().and_then(|it| it.split('|').nth(9)).unwrap_or_default()
}

/// The MSA segment of an answer to the message with this MSH-10.
fn acknowledgement<'a>(answer: &'a Message, control_id: &str) -> Result<&'a Segment, MllpError> {
    match answer.segment("MSA") {
        Some(msa) => Ok(msa),
        None if answer.msh(10, 1) == control_id => Err(MllpError::Echo),
        None => Err(MllpError::NoAcknowledgement),
    }
}

/// Why a message was not accepted: MSA-3, and of each ERR segment the code and its text (ERR-3, or
/// ERR-1.4 before version 2.5), diagnostics (ERR-7) and message (ERR-8).
fn reasons(answer: &Message, msa: &Segment) -> String {
    let mut reasons = vec![answer.value(msa, 3, 1)];
    for err in answer.segments().iter().filter(|it| it.name == "ERR") {
        let code = format!("{} {}", answer.value(err, 3, 1), answer.value(err, 3, 2));
        reasons.push(code.trim().to_owned());
        reasons.extend([(1, 4), (7, 1), (8, 1)].map(|it| answer.value(err, it.0, it.1)));
    }
    let mut stated: Vec<String> = Vec::new();
    for reason in reasons {
        if !reason.is_empty() && !stated.contains(&reason) {
            stated.push(reason);
        }
    }
    quoted(&stated.join("; "))
}

/// The text of a peer as it is quoted: printable, and not longer than people read.
fn quoted(text: &str) -> String {
    let printable: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    printable.trim().chars().take(QUOTED_MAX).collect()
}

/// Whether the peer has closed a connection that should be silent.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0; 1];
    match stream.try_read(&mut byte) {
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        // The end of the stream, or bytes that were not requested.
        Ok(_) => true,
    }
}

async fn send_and_receive(stream: &mut TcpStream, bytes: &[u8]) -> Result<Vec<u8>, MllpError> {
    stream.write_all(&framed(bytes)).await?;
    let mut decoder = Decoder::default();
    let mut buffer = Vec::with_capacity(4096);
    loop {
        match decoder.next_frame()? {
            Some(Frame::Message(answer) | Frame::TooLong(answer)) => return Ok(answer),
            Some(Frame::BrokenOff { .. }) => continue,
            None => {}
        }
        buffer.clear();
        let came = match timeout(wait(&decoder), stream.read_buf(&mut buffer)).await {
            Ok(read) => Some(read?),
            Err(_) => None,
        };
        match came {
            Some(read) if read > 0 => decoder.push(&buffer),
            // Some receivers never send the last carriage return (HL7-01).
            _ if decoder.ends_without_return() => decoder.push(b"\r"),
            _ => return Err(no_answer(&decoder, came.is_some())),
        }
    }
}

/// How long to wait for the next bytes of an acknowledgement.
fn wait(decoder: &Decoder) -> Duration {
    if decoder.ends_without_return() {
        RETURN_WAIT
    } else if is_unframed(decoder) {
        UNFRAMED_WAIT
    } else {
        ACKNOWLEDGEMENT_WAIT
    }
}

/// Whether something came, and all of it outside of any frame. Blank bytes between frames are
/// harmless.
fn is_unframed(decoder: &Decoder) -> bool {
    !decoder.is_inside() && !decoder.skipped().trim_ascii().is_empty()
}

/// Why there is no acknowledgement, after the peer fell silent or closed the connection.
fn no_answer(decoder: &Decoder, is_closed: bool) -> MllpError {
    if is_unframed(decoder) {
        return MllpError::Unframed(quoted(&String::from_utf8_lossy(decoder.skipped())));
    }
    match (decoder.is_inside(), is_closed) {
        (true, _) => MllpError::Unfinished,
        (false, true) => MllpError::Closed,
        (false, false) => MllpError::Silent,
    }
}

#[async_trait]
impl Destination for MllpDestination {
    fn takes(&self, kind: OutputKind) -> bool {
        match kind.format() {
            OutputFormat::Hl7 => true,
            OutputFormat::Dicom | OutputFormat::Fhir | OutputFormat::Json => false,
        }
    }

    fn preferences(&self) -> Preferences {
        self.preferences.clone()
    }

    /// Sends an NMD^N02 about no patient, marked as training (MSH-11 `T`).
    async fn probe(&self) -> Result<Option<String>, ProbeError> {
        let now = Zoned::now();
        let time = now.strftime("%Y%m%d%H%M%S%z");
        let message = format!(
            "MSH|^~\\&|ISOCENTER|AI|{}|{}|{time}||NMD^N02|T{}|T|2.5.1|||AL|NE||{}\r\
             NCK|{time}\r",
            self.preferences.application,
            self.preferences.facility,
            now.timestamp().as_second(),
            self.preferences.character_set
        );
        let answer = self.exchange(&message).await.map_err(|error| ProbeError {
            message: format!("{} does not answer", self.address),
            source: Box::new(error),
        })?;
        let msa = acknowledgement(&answer, control_id(&message)).map_err(|error| ProbeError {
            message: format!("{} does not acknowledge a test message", self.address),
            source: Box::new(error),
        })?;
        let code = quoted(&answer.value(msa, 1, 1));
        Ok(Some(format!("{} answers a test message with {code}", self.address)))
    }

    async fn send(&self, _: &str, _: &str, outputs: &[Output]) -> Result<Sent, SendError> {
        for output in outputs {
            let message = String::from_utf8_lossy(&output.bytes);
            self.send_one(&message).await?;
        }
        Ok(Sent::Acknowledged)
    }
}
