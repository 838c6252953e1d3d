//! Serves one MLLP connection: reads messages, has them stored, and sends the acknowledgements.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::{Answers, EventSink, MessageArrival, MessageIntake};
use domain::event::{BatchIncomplete, EventBody, MessageUnreadable};
use domain::{Actor, Event, Outcome, Subject};
use jiff::{Timestamp, Zoned};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use crate::acknowledgement::{self, OwnIds, not_stored, refuse_unreadable};
use crate::batch::split;
use crate::frame::{Decoder, Frame, Garbage, RETURN_WAIT, framed};
use crate::message::{ErrorCode, Message, Problem};
use crate::receiver::{Judged, Rules, judge};
use crate::time::timestamp;

/// How much is read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// Longest message that is parsed on the task of its connection: well under a millisecond.
const SHORT_BYTES_MAX: usize = 16 * 1024;

/// Lower bound of bytes per second inside a message, once it has lasted as long as one may be
/// silent.
const THROUGHPUT_MIN: u64 = 4 * 1024;

/// How long to wait on a connection (HL7-02).
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// For the next message.
    pub idle: Duration,
    /// For the next bytes inside a message.
    pub partial: Duration,
    /// For the peer to receive an acknowledgement.
    pub write: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(10),
            partial: Duration::from_secs(30),
            write: Duration::from_secs(30),
        }
    }
}

/// Why a connection had to be closed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// The peer does not speak MLLP.
    #[error("the peer does not speak MLLP")]
    Garbage(#[from] Garbage),
    /// The peer stopped inside a message.
    #[error("the peer was silent inside of a message")]
    Silent,
    /// The message was longer than any may be.
    #[error("the peer sent a message that is too long")]
    TooLong,
}

/// One connection with a peer.
pub struct Connection {
    /// Distinguishes this connection from all others.
    id: Uuid,
    /// Network address of the peer.
    address: String,
    rules: Arc<Rules>,
    timers: Timers,
    messages: Arc<dyn MessageIntake>,
    events: Arc<dyn EventSink>,
}

/// A message that was read, and the bytes it was read from.
struct ReadMessage {
    judged: Result<Judged, Problem>,
    bytes: Vec<u8>,
}

impl Connection {
    /// A new connection with the peer at `address`.
    pub fn new(
        address: String,
        rules: Arc<Rules>,
        timers: Timers,
        messages: Arc<dyn MessageIntake>,
        events: Arc<dyn EventSink>,
    ) -> Self {
        Self { id: Uuid::now_v7(), address, rules, timers, messages, events }
    }

    /// Serves the peer until it closes the connection, or is idle for too long.
    ///
    /// # Errors
    ///
    /// Fails with why the connection had to be closed. What was acknowledged stays stored.
    pub async fn serve(&self, mut stream: TcpStream) -> Result<(), ConnectionError> {
        let mut decoder = Decoder::default();
        let mut buffer = Vec::with_capacity(READ_BYTES);
        let mut inside_since: Option<(Instant, u64)> = None;
        let mut has_told = false;
        loop {
            while let Some(frame) = next_frame(&mut decoder, &mut has_told)? {
                inside_since = None;
                self.answer_frame(frame, &mut stream).await?;
            }
            let wait = if decoder.ends_without_return() {
                RETURN_WAIT
            } else if decoder.is_inside() {
                self.timers.partial
            } else {
                self.timers.idle
            };
            buffer.clear();
            match timeout(wait, stream.read_buf(&mut buffer)).await {
                Ok(read) => match read? {
                    0 => return Ok(()),
                    read => {
                        decoder.push(&buffer);
                        let (since, bytes) = inside_since.get_or_insert((Instant::now(), 0));
                        *bytes += read as u64;
                        let seconds = *bytes / THROUGHPUT_MIN;
                        if since.elapsed() > self.timers.partial + Duration::from_secs(seconds) {
                            return Err(ConnectionError::Silent);
                        }
                    }
                },
                Err(_) if decoder.ends_without_return() => decoder.push(b"\r"),
                Err(_) if decoder.is_inside() => return Err(ConnectionError::Silent),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Stores what came in a frame, and sends the acknowledgements in order.
    async fn answer_frame(
        &self,
        frame: Frame,
        stream: &mut TcpStream,
    ) -> Result<(), ConnectionError> {
        let bytes = match frame {
            Frame::Message(bytes) => bytes,
            Frame::TooLong(head) => {
                let problem = Problem::refused(
                    ErrorCode::ApplicationInternalError,
                    "the message is too long",
                );
                let reason = problem.text.clone();
                self.record(MessageUnreadable { reason, bytes: None }).await;
                if let Some(refusal) = refuse_unreadable(&head, &problem, &own_id(), &now()) {
                    self.send(stream, &refusal).await?;
                }
                return Err(ConnectionError::TooLong);
            }
            Frame::BrokenOff { bytes } => {
                metrics::counter!("hl7_messages_total", "outcome" => "broken_off").increment(1);
                warn!(bytes, "a message is broken off: its sender began another inside of it");
                let reason = "another message began inside of it".to_owned();
                self.record(MessageUnreadable { reason, bytes: Some(bytes as u64) }).await;
                return Ok(());
            }
        };
        for answer in self.answers(bytes).await {
            self.send(stream, &answer).await?;
        }
        Ok(())
    }

    async fn send(&self, stream: &mut TcpStream, answer: &[u8]) -> Result<(), ConnectionError> {
        let bytes = framed(answer);
        let written = stream.write_all(&bytes);
        Ok(timeout(self.timers.write, written).await.map_err(|_| ConnectionError::Silent)??)
    }

    /// Stores the message or the batch of a frame. Returns the acknowledgements, in order.
    async fn answers(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(batch) = split(&bytes) else { return self.answer(bytes).await };
        if batch.is_incomplete() {
            let came = batch.messages.len();
            self.record(BatchIncomplete { announced: batch.declared, came }).await;
        }
        let mut all = Vec::new();
        for message in &batch.messages {
            all.extend(self.answer(message.clone()).await);
        }
        vec![batch.answered(&all, &own_id(), &now())]
    }

    /// Stores a message. Returns its acknowledgements: none for an acknowledgement, else two
    /// systems would acknowledge each other forever (HL7-12).
    async fn answer(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(ReadMessage { judged, bytes }) = self.read(bytes).await else {
            return Vec::new();
        };
        let judged = match judged {
            Ok(judged) if is_acknowledgement(&judged.message) => return Vec::new(),
            Ok(judged) => judged,
            Err(problem) => {
                metrics::counter!("hl7_messages_total", "outcome" => "unreadable").increment(1);
                warn!(problem = problem.text, "a message cannot be read");
                let reason = problem.text.clone();
                self.record(MessageUnreadable { reason, bytes: Some(bytes.len() as u64) }).await;
                return refuse_unreadable(&bytes, &problem, &own_id(), &now())
                    .into_iter()
                    .collect();
            }
        };
        let header = judged.message.header_only();
        let arrival = self.arrival(judged, bytes);
        let outcome = arrival.acknowledgement_code.clone();
        match self.messages.accept_message(arrival).await {
            Ok(Answers { first, application }) => {
                metrics::counter!("hl7_messages_total", "outcome" => outcome).increment(1);
                first.into_iter().chain(application).collect()
            }
            Err(refusal) => {
                metrics::counter!("hl7_messages_total", "outcome" => "not_kept").increment(1);
                // The sender retains it and tries again (HL7-10).
                let problem =
                    Problem::wrong(ErrorCode::ApplicationInternalError, "", refusal.comment);
                vec![not_stored(&header, &problem, &own_id(), &now())]
            }
        }
    }

    /// Parses a message: a long one on a thread that may block. Nothing, if that thread failed.
    async fn read(&self, bytes: Vec<u8>) -> Option<ReadMessage> {
        if bytes.len() <= SHORT_BYTES_MAX {
            return Some(ReadMessage { judged: judge(&bytes, &self.rules), bytes });
        }
        let rules = Arc::clone(&self.rules);
        let read = move || ReadMessage { judged: judge(&bytes, &rules), bytes };
        tokio::task::spawn_blocking(read).await.ok()
    }

    async fn record(&self, body: impl EventBody) {
        let event = Event::new(Subject::default(), body)
            .by(Actor::peer("unknown", &self.address))
            .ended(Outcome::MinorFailure);
        self.events.record_event(event).await;
    }

    fn arrival(&self, judged: Judged, bytes: Vec<u8>) -> MessageArrival {
        let Judged { message, effects, flags } = judged;
        let (effects, problem) = match effects {
            Ok(effects) => (effects, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let ids = OwnIds { accept: own_id(), application: own_id() };
        let acknowledged = acknowledgement::acknowledge(&message, problem.as_ref(), &ids, &now());
        MessageArrival {
            address: self.address.clone(),
            connection: Some(self.id),
            sha256: hex::encode(Sha256::digest(&bytes)),
            raw: bytes,
            sending_application: message.msh(3, 1),
            sending_facility: message.msh(4, 1),
            message_type: message.message_type(),
            control_id: message.msh(10, 1),
            processing_id: message.msh(11, 1),
            stated_at: stated_at(&message),
            effects,
            answers: acknowledged.answers,
            acknowledgement_code: acknowledged.code.name().to_owned(),
            problem: problem.map(|it| it.text),
            flags,
        }
    }
}

/// The next frame of a connection. Bytes outside of any are told once: a peer that does not frame its
/// messages waits for answers that never come.
fn next_frame(decoder: &mut Decoder, has_told: &mut bool) -> Result<Option<Frame>, Garbage> {
    let frame = decoder.next_frame();
    let bytes = decoder.bytes_outside();
    if bytes > 0 && !*has_told {
        *has_told = true;
        metrics::counter!("hl7_unframed_connections_total").increment(1);
        warn!(bytes, "bytes outside of any MLLP frame are skipped");
    }
    frame
}

/// Whether a frame holds an acknowledgement and nothing else.
fn is_acknowledgement(message: &Message) -> bool {
    message.msh(9, 1) == "ACK" && !message.has_second_header()
}

/// When the event happened according to the sender: EVN-2, else MSH-7, if it is precise to the
/// minute (HL7-25). A date alone does not order messages.
fn stated_at(message: &Message) -> Option<Timestamp> {
    let event = message.segment("EVN").map(|it| message.value(it, 2, 1)).unwrap_or_default();
    let text = if event.len() >= 12 { event } else { message.msh(7, 1) };
    timestamp(&text)
}

/// Our own control id of an answer: at most twenty characters (2.14.9.10).
fn own_id() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 1_000_000;
    format!("A{}{number:06}", Timestamp::now().as_second())
}

/// MSH-7, to the second and with its offset.
pub(crate) fn now() -> String {
    Zoned::now().strftime("%Y%m%d%H%M%S%z").to_string()
}

#[cfg(test)]
mod tests {
    use encoding::hl7::charset::Hl7Charset;

    use super::*;

    #[track_caller]
    fn check(msh_7: &str, evn: &str, expected: Option<&str>) {
        let text = format!("MSH|^~\\&|A|B|C|D|{msh_7}||ADT^A40|1|P|2.5\rEVN|A40|{evn}");
        let message = Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap();
        assert_eq!(stated_at(&message).map(|it| it.to_string()).as_deref(), expected);
    }

    #[test]
    fn hl7_25_a_time_without_a_day_s_end_says_no_order() {
        check("20260102", "20260101", None);
        check("20260102103001+0800", "", Some("2026-01-02T02:30:01Z"));
        check("20260102", "202601021030-0500", Some("2026-01-02T15:30:00Z"));
        check("2026010210300199.5+0000", "x", Some("2026-01-02T10:30:01Z"));
        check("99999999999999", "", None);
    }

    #[test]
    fn hl7_12_an_acknowledgement_with_a_message_behind_it_is_answered() {
        let ack = "MSH|^~\\&|A|B|C|D|2026||ACK|1|P|2.5\rMSA|AA|7";
        let parsed = |text: &str| Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap();
        assert!(is_acknowledgement(&parsed(ack)));
        let message = "MSH|^~\\&|A|B|C|D|2026||ADT^A01|2|P|2.5\rPID|1||7";
        assert!(!is_acknowledgement(&parsed(message)));
        assert!(!is_acknowledgement(&parsed(&format!("{ack}\r{message}"))));
    }
}
