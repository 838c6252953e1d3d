//! The engine's side of decoding: a confined process for each file.
//!
//! The process gets the file as an open descriptor, and nothing else of the engine's. One that ends
//! or answers nonsense has found a fault of its file, which is not decoded again by itself. One
//! that takes too long may do better on a machine with less to do.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{DecodeError, DecodedPicture, Decoder, ReceivedDocument, ReceivedSegment};
use rustix::process::{Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Semaphore;

use crate::decoder_answer::{Answer, DecoderTask, SegmentAnswer};
use crate::protocol::{FrameLengths, HEADER_BYTES};
use crate::worker::{Exit, exit_of, process_group};

/// Limits of the decoder's processes.
#[derive(Clone, Copy, Debug)]
pub struct DecoderLimits {
    /// Upper bound of the address space of one process, in bytes.
    pub memory_bytes_max: u64,
    /// Upper bound of the processor time of one process, in seconds.
    pub processor_seconds_max: u64,
    /// How long one process may take.
    pub time_max: Duration,
    /// Upper bound of the number of processes that work at the same time.
    pub processes_max: usize,
}

impl Default for DecoderLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 4 << 30,
            processor_seconds_max: 30,
            time_max: Duration::from_mins(1),
            processes_max: 2,
        }
    }
}

/// Decodes each file in a confined process of its own.
pub struct ConfinedDecoder {
    /// The program that is started: the engine's own.
    program: PathBuf,
    limits: DecoderLimits,
    permits: Semaphore,
    /// Images that could not be decoded lately. A delivery is composed at every attempt.
    undecodable: Mutex<VecDeque<UndecodablePicture>>,
}

/// An image that could not be decoded.
struct UndecodablePicture {
    file: PathBuf,
    reason: String,
}

/// Images that could not be decoded and are remembered.
const UNDECODABLE_MAX: usize = 256;

impl ConfinedDecoder {
    /// A decoder whose processes run `program`, which is that of the engine.
    pub fn new(program: PathBuf, limits: DecoderLimits) -> Self {
        let permits = Semaphore::new(limits.processes_max);
        Self { program, limits, permits, undecodable: Mutex::default() }
    }

    /// Why an image could not be decoded lately.
    fn remembered(&self, file: &Path) -> Option<String> {
        let undecodable = self.undecodable.lock().unwrap_or_else(PoisonError::into_inner);
        undecodable.iter().find(|it| it.file == file).map(|it| it.reason.clone())
    }

    /// Remembers why an image could not be decoded. What is in the archive does not change.
    fn remember(&self, file: &Path, reason: &str) {
        let mut undecodable = self.undecodable.lock().unwrap_or_else(PoisonError::into_inner);
        if undecodable.len() >= UNDECODABLE_MAX {
            undecodable.pop_front();
        }
        let image = UndecodablePicture { file: file.to_owned(), reason: reason.to_owned() };
        undecodable.push_back(image);
    }

    /// Decodes one file.
    async fn decode(&self, task: DecoderTask, file: &Path) -> Result<Decoded, DecodeError> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|_| unavailable("the engine is shutting down"))?;
        let file = File::open(file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => undecodable("it is not in the archive any more"),
            _ => unavailable(format!("its file cannot be opened: {error}")),
        })?;
        let mut process = self.start(task, file)?;
        let answer = tokio::time::timeout(self.limits.time_max, process.answer()).await;
        let seconds = self.limits.time_max.as_secs();
        match answer {
            Ok(Ok(decoded)) => Ok(decoded),
            Ok(Err(Failure::Decode(error))) => Err(error),
            Ok(Err(Failure::Ended { was_ready })) => {
                Err(self.ended(exit_of(&mut process.child).await, was_ready))
            }
            // A machine under load is no fault of the file: it is not remembered as one.
            Err(_) => {
                let reason = format!("decoding it takes longer than {seconds} s");
                Err(DecodeError::OutOfTime { reason })
            }
        }
    }

    fn start(&self, task: DecoderTask, file: File) -> Result<Process, DecodeError> {
        let DecoderLimits { memory_bytes_max, processor_seconds_max, .. } = self.limits;
        let mut child = Command::new(&self.program)
            .args(["decoder", task.name()])
            .args(["--memory", &memory_bytes_max.to_string()])
            .args(["--processor-seconds", &processor_seconds_max.to_string()])
            .stdin(Stdio::from(file))
            .stdout(Stdio::piped())
            // What a library prints may quote the file, which may name a patient.
            .stderr(Stdio::null())
            .env_clear()
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| unavailable(format!("its process cannot be started: {error}")))?;
        let output = child.stdout.take().ok_or_else(|| unavailable("its process has no output"))?;
        Ok(Process { child, output })
    }

    /// The error of a process that ended without an answer.
    fn ended(&self, exit: Exit, was_ready: bool) -> DecodeError {
        if !was_ready {
            return unavailable(format!("its process ended: {exit}"));
        }
        let seconds = self.limits.processor_seconds_max;
        match exit {
            Exit::Signal(libc::SIGXCPU) => {
                undecodable(format!("decoding it takes more than {seconds} s of processor time"))
            }
            exit => undecodable(format!("the decoder ended while it worked on it ({exit})")),
        }
    }
}

fn undecodable(reason: impl Into<String>) -> DecodeError {
    DecodeError::Undecodable { reason: reason.into() }
}

fn unavailable(reason: impl Into<String>) -> DecodeError {
    DecodeError::Unavailable { reason: reason.into() }
}

/// The error of an answer that is not one to the task.
fn nonsense() -> DecodeError {
    undecodable("the decoder answered nonsense after it had worked on it")
}

/// A process that decodes one file. Dropping it kills the process.
struct Process {
    child: Child,
    output: ChildStdout,
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = process_group(&self.child) {
            // It may have ended already.
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Why there is no answer.
enum Failure {
    /// There is one, or none that can be read.
    Decode(DecodeError),
    /// The output ended.
    Ended {
        /// Whether the process was confined and had begun.
        was_ready: bool,
    },
}

/// An answer with its attachment.
struct Decoded {
    answer: Answer,
    attachment: Vec<u8>,
}

impl Process {
    /// The answer to the task.
    async fn answer(&mut self) -> Result<Decoded, Failure> {
        let first = self.frame(false).await?;
        match first.answer {
            Answer::Ready => {}
            Answer::Unconfined { reason } => {
                let reason = format!("its process cannot be confined: {reason}");
                return Err(Failure::Decode(unavailable(reason)));
            }
            _ => return Err(Failure::Decode(nonsense())),
        }
        let second = self.frame(true).await?;
        match second.answer {
            Answer::Undecodable { reason } => Err(Failure::Decode(undecodable(reason))),
            Answer::Ready | Answer::Unconfined { .. } => Err(Failure::Decode(nonsense())),
            _ => Ok(second),
        }
    }

    async fn frame(&mut self, was_ready: bool) -> Result<Decoded, Failure> {
        let frame = read_frame(&mut self.output).await;
        frame.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::Ended { was_ready },
            _ => Failure::Decode(nonsense()),
        })
    }
}

/// Reads an answer. Memory is allocated as its bytes arrive.
async fn read_frame(output: &mut (impl AsyncRead + Unpin)) -> io::Result<Decoded> {
    let mut header = [0; HEADER_BYTES];
    output.read_exact(&mut header).await?;
    let lengths = FrameLengths::decode(header)?;
    let json = read_bytes(output, lengths.json).await?;
    let attachment = read_bytes(output, lengths.attachment).await?;
    let answer = serde_json::from_slice(&json).map_err(io::Error::other)?;
    Ok(Decoded { answer, attachment })
}

async fn read_bytes(output: &mut (impl AsyncRead + Unpin), length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    output.take(length.into()).read_to_end(&mut bytes).await?;
    if bytes.len() == length as usize {
        return Ok(bytes);
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A picture with its pixels, which are the attachment.
fn picture_of(decoded: Decoded) -> Result<DecodedPicture, DecodeError> {
    let Decoded { answer: Answer::Picture { width, height }, attachment } = decoded else {
        return Err(nonsense());
    };
    if u64::from(width) * u64::from(height) * 3 != attachment.len() as u64 {
        return Err(nonsense());
    }
    Ok(DecodedPicture { width, height, rgb: attachment })
}

/// Segments with their masks, which are the attachment. `None` if it is not as long as they are.
fn with_masks(segments: Vec<SegmentAnswer>, attachment: &[u8]) -> Option<Vec<ReceivedSegment>> {
    let mut rest = attachment;
    let mut received = Vec::new();
    for segment in segments {
        let length = usize::try_from(segment.mask_bytes()).ok()?;
        let mut masks = Vec::new();
        for image in segment.images {
            let (mask, behind) = rest.split_at_checked(length)?;
            rest = behind;
            masks.push((image, mask.to_vec()));
        }
        received.push(ReceivedSegment {
            tracking_uid: segment.tracking_uid,
            size: segment.size,
            images: masks.into_iter().collect(),
        });
    }
    rest.is_empty().then_some(received)
}

#[async_trait]
impl Decoder for ConfinedDecoder {
    async fn picture(&self, file: &Path) -> Result<DecodedPicture, DecodeError> {
        if let Some(reason) = self.remembered(file) {
            return Err(undecodable(reason));
        }
        let decoded = self.decode(DecoderTask::Picture, file).await.and_then(picture_of);
        if let Err(DecodeError::Undecodable { reason }) = &decoded
            && file.exists()
        {
            self.remember(file, reason);
        }
        decoded
    }

    async fn segments(&self, file: &Path) -> Result<Vec<ReceivedSegment>, DecodeError> {
        let Decoded { answer, attachment } = self.decode(DecoderTask::Segments, file).await?;
        let Answer::Segments { segments } = answer else { return Err(nonsense()) };
        with_masks(segments, &attachment).ok_or_else(nonsense)
    }

    async fn document(&self, file: &Path) -> Result<ReceivedDocument, DecodeError> {
        let answer = self.decode(DecoderTask::Document, file).await?.answer;
        let Answer::Document { predecessors, sections } = answer else { return Err(nonsense()) };
        Ok(ReceivedDocument { predecessors, sections })
    }

    async fn inflated_header(&self, file: &Path) -> Result<Vec<u8>, DecodeError> {
        let Decoded { answer, attachment } = self.decode(DecoderTask::InflatedHeader, file).await?;
        if answer == Answer::Inflated { Ok(attachment) } else { Err(nonsense()) }
    }

    async fn inflated(&self, file: &Path) -> Result<Vec<u8>, DecodeError> {
        let Decoded { answer, attachment } = self.decode(DecoderTask::Inflated, file).await?;
        if answer == Answer::Inflated { Ok(attachment) } else { Err(nonsense()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::package::tests::Scratch;

    /// A shell command that sends an answer with an attachment of up to 255 bytes.
    fn sends(json: &str, attachment: &str) -> String {
        let lengths = [json.len(), attachment.len()].map(|it| format!("\\{it:o}\\0\\0\\0"));
        format!("printf '{}%s%s' '{json}' '{attachment}';", lengths.concat())
    }

    fn ready() -> String {
        sends(r#"{"type":"ready"}"#, "")
    }

    /// What becomes of a picture if the decoder's process is this shell script.
    async fn picture(script: &str) -> Result<DecodedPicture, DecodeError> {
        let scratch = Scratch::new();
        let program = scratch.0.join("decoder");
        // Written by another process: a program that this one holds open for writing cannot start.
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"";
        let mut shell = std::process::Command::new("/bin/sh");
        assert!(shell.args(["-c", write, "sh", script]).arg(&program).status().unwrap().success());
        let time_max = Duration::from_secs(2);
        let limits = DecoderLimits { time_max, ..DecoderLimits::default() };
        let decoder = ConfinedDecoder::new(program.clone(), limits);
        let first = decoder.picture(&program).await;
        // A file that was at fault is not decoded again.
        std::fs::remove_file(&program).unwrap();
        let second = decoder.picture(&program).await;
        assert!(!matches!(first, Err(DecodeError::Undecodable { .. })) || first == second);
        first
    }

    #[tokio::test]
    async fn sec_24_the_file_is_standard_input_and_the_picture_comes_back() {
        let check = "read line; test \"$line\" = '#!/bin/sh' || exit 7;";
        let answer = sends(r#"{"type":"picture","width":1,"height":1}"#, "rgb");
        let found = picture(&format!("{}{check}{answer}", ready())).await.unwrap();
        assert_eq!(found, DecodedPicture { width: 1, height: 1, rgb: b"rgb".to_vec() });
    }

    #[tokio::test]
    async fn sec_24_a_file_that_ends_or_confuses_the_decoder_is_at_fault() {
        let bytes_of_another = sends(r#"{"type":"picture","width":9,"height":9}"#, "rgb");
        let of_another_task = sends(r#"{"type":"inflated"}"#, "rgb");
        for (script, expected) in [
            ("kill -6 $$", "signal 6"),
            ("kill -24 $$", "30 s of processor time"),
            ("exit 101", "exit code 101"),
            ("printf '\\377\\377\\377\\377\\0\\0\\0\\0'; sleep 60", "nonsense"),
            (bytes_of_another.as_str(), "nonsense"),
            (of_another_task.as_str(), "nonsense"),
        ] {
            let start = Instant::now();
            let error = picture(&format!("{}{script}", ready())).await.unwrap_err();
            let is_told =
                matches!(&error, DecodeError::Undecodable { reason } if reason.contains(expected));
            assert!(is_told, "{script}: {error}");
            assert!(start.elapsed() < Duration::from_secs(20), "{script}");
        }
    }

    #[tokio::test]
    async fn sec_24_a_file_that_takes_too_long_is_tried_again() {
        let start = Instant::now();
        let error = picture(&format!("{}sleep 60", ready())).await.unwrap_err();
        let is_told = matches!(&error, DecodeError::OutOfTime { reason } if reason.contains("longer than 2 s"));
        assert!(is_told, "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[tokio::test]
    async fn sec_24_a_decoder_that_does_not_begin_is_at_fault_itself() {
        let unconfined = sends(r#"{"type":"unconfined","reason":"no seccomp"}"#, "");
        for script in ["exit 1", "kill -9 $$", unconfined.as_str()] {
            let error = picture(script).await.unwrap_err();
            assert!(matches!(error, DecodeError::Unavailable { .. }), "{script}: {error}");
        }
    }

    #[test]
    fn sec_24_masks_are_as_long_as_their_segments_say() {
        let segment = || SegmentAnswer {
            tracking_uid: "1.2".to_owned(),
            size: [3, 3],
            images: vec!["a".to_owned(), "b".to_owned()],
        };
        let received = with_masks(vec![segment()], &[1, 0, 2, 0]).unwrap();
        assert_eq!(received[0].images["b"], [2, 0]);
        assert_eq!(with_masks(vec![segment()], &[1, 0, 2]), None);
        assert_eq!(with_masks(vec![segment()], &[1, 0, 2, 0, 3]), None);
        let endless = SegmentAnswer { size: [u32::MAX; 2], ..segment() };
        assert_eq!(with_masks(vec![endless], &[1]), None);
    }
}
