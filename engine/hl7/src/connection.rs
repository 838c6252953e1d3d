//! One peer on one connection.

use std::time::{Duration, Instant};

use contracts::{Intake, MessageArrival};
use encoding::hl7_charset::Hl7Charset;
use jiff::Zoned;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use crate::acknowledgement::{Mode, acknowledge, code, refuse_unreadable};
use crate::frame::{Decoder, Frame, Garbage, framed};
use crate::message::Problem;
use crate::receiver::{Judged, judge};

/// How much is asked of the system at once.
const READ_BYTES: usize = 64 * 1024;

/// Fewest bytes per second inside of a message, once it has lasted as long as a partial one may.
const THROUGHPUT_MIN: u64 = 4 * 1024;

/// How long the return after an end may take before it is taken as never coming (HL7-01).
const RETURN_WAIT: Duration = Duration::from_millis(500);

/// How long to wait on a connection (HL7-02).
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// For the next message.
    pub idle: Duration,
    /// For the next bytes inside of a message.
    pub partial: Duration,
    /// For the peer to take an answer.
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

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// The peer does not speak MLLP.
    #[error("the peer does not speak MLLP")]
    Garbage(#[from] Garbage),
    /// The peer stopped inside of a message.
    #[error("the peer was silent inside of a message")]
    Silent,
    /// The message was longer than any may be.
    #[error("the peer sent a message that is too long")]
    TooLong,
}

/// Serves a peer until it closes the connection, or is idle for too long.
///
/// # Errors
///
/// Says why the connection had to be closed. What was acknowledged stays so.
pub async fn serve(
    mut stream: TcpStream,
    address: &str,
    charset: Hl7Charset,
    timers: Timers,
    intake: &dyn Intake,
) -> Result<(), ConnectionError> {
    let mut decoder = Decoder::default();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut inside_since: Option<(Instant, u64)> = None;
    loop {
        while let Some(frame) = decoder.next_frame()? {
            inside_since = None;
            let (answer, is_over) = match frame {
                Frame::Message(bytes) => (answer(bytes, address, charset, intake).await, false),
                Frame::TooLong(head) => {
                    let problem = Problem::refused(207, "the message is too long");
                    (Some(refuse_unreadable(&head, &problem, &own_id(), &now())), true)
                }
            };
            let Some(answer) = answer else { continue };
            let bytes = framed(&answer);
            let written = stream.write_all(&bytes);
            timeout(timers.write, written).await.map_err(|_| ConnectionError::Silent)??;
            if is_over {
                return Err(ConnectionError::TooLong);
            }
        }
        let wait = match (decoder.ends_without_return(), decoder.is_inside()) {
            (true, _) => RETURN_WAIT,
            (_, true) => timers.partial,
            _ => timers.idle,
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
                    if since.elapsed() > timers.partial + Duration::from_secs(seconds) {
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

/// Keeps a message, and gives what to answer: nothing to an acknowledgement, else two systems would
/// acknowledge each other for ever (HL7-12).
async fn answer(
    bytes: Vec<u8>,
    address: &str,
    charset: Hl7Charset,
    intake: &dyn Intake,
) -> Option<Vec<u8>> {
    // A long message takes its time to be taken apart: on a thread that may be busy.
    let read = tokio::task::spawn_blocking(move || (judge(&bytes, charset), bytes)).await;
    let (judged, bytes) = read.ok()?;
    let judged = match judged {
        Ok(judged) if judged.message.msh(9, 1) == "ACK" => return None,
        Ok(judged) => judged,
        Err(problem) => {
            metrics::counter!("hl7_messages_total", "outcome" => "unreadable").increment(1);
            warn!(problem = problem.text, "a message cannot be read");
            let detail = serde_json::json!({"reason": problem.text, "bytes": bytes.len()});
            let event = domain::Event::engine(
                "message_unreadable",
                domain::Action::C,
                domain::Subject::default(),
                detail,
            );
            let actor = domain::Actor::peer("unknown", address);
            intake.note_event(event.by(actor).ended(domain::Outcome::MinorFailure)).await;
            return Some(refuse_unreadable(&bytes, &problem, &own_id(), &now()));
        }
    };
    let Judged { message, effects } = judged;
    let (effects, problem) = match effects {
        Ok(effects) => (effects, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    let arrival = MessageArrival {
        address: address.to_owned(),
        sha256: hex::encode(Sha256::digest(&bytes)),
        raw: bytes,
        sending_application: message.msh(3, 1),
        sending_facility: message.msh(4, 1),
        message_type: format!("{}^{}", message.msh(9, 1), message.msh(9, 2)),
        control_id: message.msh(10, 1),
        effects,
        acknowledgement: acknowledge(&message, problem.as_ref(), &own_id(), &now()),
        acknowledgement_code: code(Mode::of(&message), problem.as_ref()).to_owned(),
        problem: problem.map(|it| it.text),
    };
    let outcome = arrival.acknowledgement_code.clone();
    match intake.note_message(arrival).await {
        Ok(answer) => {
            metrics::counter!("hl7_messages_total", "outcome" => outcome).increment(1);
            Some(answer)
        }
        Err(refusal) => {
            metrics::counter!("hl7_messages_total", "outcome" => "not_kept").increment(1);
            // The sender keeps it and tries again (HL7-10).
            let problem = Problem::wrong(207, "", refusal.comment);
            Some(acknowledge(&message, Some(&problem), &own_id(), &now()))
        }
    }
}

/// Our own control id of an answer: at most twenty characters (2.14.9.10).
fn own_id() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 1_000_000;
    format!("A{}{number:06}", jiff::Timestamp::now().as_second())
}

/// MSH-7, to the second and with its offset.
pub(crate) fn now() -> String {
    Zoned::now().strftime("%Y%m%d%H%M%S%z").to_string()
}
