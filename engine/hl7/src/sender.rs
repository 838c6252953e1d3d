//! Sends messages over MLLP and waits for their acknowledgements (HL7-14).

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
use crate::frame::{Decoder, Frame, Garbage, framed};
use crate::message::{Message, Problem};

/// Longest wait for an acknowledgement.
const ACKNOWLEDGEMENT_WAIT: Duration = Duration::from_secs(30);

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
    /// The answer is not MLLP.
    #[error("the peer does not speak MLLP")]
    Garbage(#[from] Garbage),
    /// The answer is no message.
    #[error("the acknowledgement cannot be read")]
    Unreadable(#[from] Problem),
    /// The acknowledgement refers to another message (MSA-2).
    #[error("the acknowledgement is of another message")]
    Mismatch,
    /// The peer did not accept the message.
    #[error("the peer answered {code}: {text}")]
    NotAccepted {
        /// MSA-1.
        code: String,
        /// ERR-3.2, or nothing.
        text: String,
    },
    /// The character set of the destination lacks a character of the message.
    #[error("the message cannot be written")]
    Charset(#[from] CharsetError),
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
            MllpError::Connect { .. }
            | MllpError::Io(_)
            | MllpError::Silent
            | MllpError::Closed
            | MllpError::Garbage(_)
            | MllpError::Unreadable(_)
            | MllpError::Mismatch => Self::Retryable(text),
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
        let msa = answer.segment("MSA").ok_or(MllpError::Closed)?;
        let code = answer.value(msa, 1, 1);
        let control_id = message.split('\r').next().and_then(|it| it.split('|').nth(9));
        if Some(answer.value(msa, 2, 1).as_str()) != control_id {
            return Err(MllpError::Mismatch);
        }
        if let Some(AcknowledgementCode::ApplicationAccept | AcknowledgementCode::CommitAccept) =
            AcknowledgementCode::parse(&code)
        {
            return Ok(());
        }
        let text = answer.segment("ERR").map(|it| answer.value(it, 3, 2)).unwrap_or_default();
        Err(MllpError::NotAccepted { code, text })
    }
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
        let read = timeout(ACKNOWLEDGEMENT_WAIT, stream.read_buf(&mut buffer)).await;
        if read.map_err(|_| MllpError::Silent)?? == 0 {
            return Err(MllpError::Closed);
        }
        decoder.push(&buffer);
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
        let msa = answer.segment("MSA").map(|it| answer.value(it, 1, 1)).unwrap_or_default();
        Ok(Some(format!("{} answers a test message with {msa}", self.address)))
    }

    async fn send(&self, _: &str, _: &str, outputs: &[Output]) -> Result<Sent, SendError> {
        for output in outputs {
            let message = String::from_utf8_lossy(&output.bytes);
            self.send_one(&message).await?;
        }
        Ok(Sent::Acknowledged)
    }
}
