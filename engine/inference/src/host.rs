//! The host process of a model: the only process with access to the device. It loads a checkpoint
//! and serves the requests of the engine, one step of the scheduler at a time.
//!
//! The socket to the engine is the standard input. The process ends when the engine closes it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use citrus_v::{
    CheckpointIndex, CitrusV, Compute, GenerationConfig, Message, MessageRole, ModelError,
    PixelBounds, Precision,
};
use domain::{ChatMessage, ErrorChain, InferRequest, InferResponse, Role, Sampling};
use imaging::Picture;

use crate::executor::{ActiveRequest, ModelExecutor};
use crate::scheduler::{Abort, Finished, Limits, Scheduler};
use crate::wire::{HostCommand, HostEvent, InferFault};
use crate::{frame, memory};

/// The maximum number of commands that wait in the queue.
const QUEUE_MAX: usize = 64;

/// How often the process reports that it works.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The idle time after which the caches are cleared: they hold patient data.
const CACHE_IDLE_LIMIT: Duration = Duration::from_mins(10);

/// The upper limit of the caches of image features and prefixes.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// The tokens that end a generation, as the chat template of Qwen2.5 has them.
const STOP_TOKENS: [&str; 2] = ["<|im_end|>", "<|endoftext|>"];

/// Loads a checkpoint, quantized to eight bits on a CPU if requested, and serves requests until the
/// engine closes the socket.
///
/// # Errors
///
/// Fails if the socket does: the engine has gone.
pub fn run(checkpoint: &Path, is_eight_bit: bool, compute: Compute) -> io::Result<()> {
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut socket = UnixStream::from(socket);
    let model = match load(checkpoint, is_eight_bit, compute) {
        Ok(model) => model,
        Err(reason) => return send(&mut socket, &HostEvent::LoadFailed { reason }),
    };
    send(&mut socket, &HostEvent::Ready)?;
    let (sender, commands) = sync_channel(QUEUE_MAX);
    let reader = socket.try_clone()?;
    std::thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || read_commands(reader, &sender))?;
    // The memory of a GPU is not measured: the default limits apply there.
    let available = memory::available().filter(|_| model.device().is_cpu());
    let budget = MemoryBudget::of(available, model.kv_bytes_per_token() as u64);
    let executor = ModelExecutor::new(model.with_cache(budget.cache_bytes));
    Host {
        socket,
        incoming: Vec::new(),
        scheduler: Scheduler::new(executor, budget.limits),
        started: Instant::now(),
        last_sent: Instant::now(),
    }
    .serve(&commands)
}

/// Loads the model on its device, or returns the reason it cannot be loaded.
pub(crate) fn load(
    checkpoint: &Path,
    is_eight_bit: bool,
    compute: Compute,
) -> Result<CitrusV, String> {
    let (device, dtype) = compute.device().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default();
        format!("no GPU can be used: {reason}; --device cpu or auto works without")
    })?;
    let is_quantized = is_eight_bit && device.is_cpu();
    let precision = if is_quantized { Precision::Q8_0 } else { Precision::Full(dtype) };
    if device.is_cpu() {
        let index = CheckpointIndex::read(checkpoint).map_err(|it| message(&it))?;
        let needed = index.cpu_memory_bytes(is_eight_bit);
        if let Some(reason) = memory_shortage(needed, is_eight_bit, memory::available()) {
            return Err(reason);
        }
    }
    CitrusV::load(checkpoint, precision, &device).map_err(|it| message(&it))
}

fn message(error: &dyn std::error::Error) -> String {
    ErrorChain(error).to_string()
}

/// The message if less memory is available than the weights need.
fn memory_shortage(needed: u64, is_eight_bit: bool, available: Option<u64>) -> Option<String> {
    let available = available.filter(|it| *it < needed)?;
    let hint = if is_eight_bit { "" } else { ", import it with --eight-bit" };
    Some(format!(
        "its weights need {:.1} GB of memory, {:.1} GB are available: end other programs{hint}, or \
         use a smaller one",
        gigabytes(needed),
        gigabytes(available)
    ))
}

fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// How the memory that is available beside the weights is divided.
#[derive(Debug, PartialEq, Eq)]
struct MemoryBudget {
    limits: Limits,
    /// For the caches of image features and prefixes.
    cache_bytes: usize,
}

impl MemoryBudget {
    /// Half of what is available for the KV caches of admitted requests, an eighth for the caches
    /// of features and prefixes, and the rest for activations. If the available memory is not
    /// known, nothing is cached.
    fn of(available: Option<u64>, kv_bytes_per_token: u64) -> Self {
        let mut limits = Limits::default();
        let Some(available) = available else { return Self { limits, cache_bytes: 0 } };
        let tokens = available / 2 / kv_bytes_per_token.max(1);
        limits.tokens = limits.tokens.min(usize::try_from(tokens).unwrap_or(usize::MAX));
        let cache_bytes = CACHE_BYTES_MAX.min(available / 8);
        Self { limits, cache_bytes: usize::try_from(cache_bytes).unwrap_or_default() }
    }
}

/// Forwards the commands of the engine until it has gone.
fn read_commands(mut socket: UnixStream, sender: &SyncSender<HostCommand>) {
    while let Ok(command) = receive(&mut socket) {
        if sender.send(command).is_err() {
            return;
        }
    }
}

struct Host {
    socket: UnixStream,
    /// Requests whose pictures are not decoded yet.
    incoming: Vec<IncomingRequest>,
    scheduler: Scheduler<ModelExecutor>,
    started: Instant,
    /// When the last event was sent.
    last_sent: Instant,
}

/// A request as it arrived.
struct IncomingRequest {
    id: u64,
    request: Box<InferRequest>,
    is_streamed: bool,
    arrived: Instant,
}

impl Host {
    fn serve(mut self, commands: &Receiver<HostCommand>) -> io::Result<()> {
        loop {
            let is_idle = self.scheduler.is_empty() && self.incoming.is_empty();
            if is_idle {
                match commands.recv_timeout(CACHE_IDLE_LIMIT) {
                    Ok(command) => self.accept(command),
                    Err(RecvTimeoutError::Timeout) => {
                        self.scheduler.executor().model.clear_caches();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.accept(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.schedule_next()?;
            let outcome = self.scheduler.step(self.started.elapsed());
            for delta in self.scheduler.executor().take_deltas() {
                self.send(&HostEvent::TextDelta { id: delta.id, text: delta.text })?;
            }
            for finished in outcome.finished {
                self.finish(finished)?;
            }
            if self.last_sent.elapsed() > HEARTBEAT_INTERVAL {
                self.send(&HostEvent::Heartbeat)?;
            }
        }
    }

    fn accept(&mut self, command: HostCommand) {
        match command {
            HostCommand::Cancel { id } => {
                self.incoming.retain(|it| it.id != id);
                self.scheduler.cancel(id);
            }
            HostCommand::Infer { id, request, is_streamed } => {
                let arrived = Instant::now();
                self.incoming.push(IncomingRequest { id, request, is_streamed, arrived });
            }
        }
    }

    /// Prepares one incoming request, the most urgent first, and adds it to the scheduler. Only
    /// one, because decoding its pictures delays the next step.
    fn schedule_next(&mut self) -> io::Result<()> {
        let by_urgency = |(index, it): &(usize, &IncomingRequest)| (it.request.priority, *index);
        let Some((index, _)) = self.incoming.iter().enumerate().min_by_key(by_urgency) else {
            return Ok(());
        };
        let incoming = self.incoming.remove(index);
        let id = incoming.id;
        match self.schedule(incoming) {
            Ok(()) => Ok(()),
            Err(fault) => self.send_outcome(id, Err(fault)),
        }
    }

    fn schedule(&mut self, incoming: IncomingRequest) -> Result<(), InferFault> {
        let id = incoming.id;
        let priority = incoming.request.priority;
        let now = self.started.elapsed();
        let waited = incoming.arrived.elapsed();
        let deadline = incoming
            .request
            .deadline_ms
            .map(|limit| now + Duration::from_millis(limit).saturating_sub(waited));
        let active = self.prepare(incoming)?;
        self.scheduler
            .add(id, active, priority, now, deadline)
            .map_err(|error| InferFault::refused(error.to_string()))
    }

    /// Decodes and resizes the pictures and tokenizes the conversation.
    fn prepare(&self, incoming: IncomingRequest) -> Result<ActiveRequest, InferFault> {
        let IncomingRequest { id, request, is_streamed, arrived } = incoming;
        let model = &self.scheduler.executor().model;
        let bounds =
            request.pixels.map_or_else(PixelBounds::default, |[min, max]| PixelBounds { min, max });
        // One after the other: only the resized form of each is held in memory.
        let mut resized = Vec::new();
        let mut source_sizes = Vec::new();
        for encoded in &request.pictures {
            let picture = decode_picture(encoded)?;
            source_sizes.push([picture.width, picture.height]);
            resized.push(model.resize(&picture, bounds).map_err(|it| refused(&it))?);
        }
        let messages: Vec<Message> = request.messages.iter().map(message_of).collect();
        let input = model.prepare_resized(&messages, resized).map_err(|it| refused(&it))?;
        let config = generation_config(model, &request.sampling);
        let sequence = model.start(input, &config).map_err(|it| refused(&it))?;
        Ok(ActiveRequest {
            id,
            sequence,
            source_sizes,
            request: InferRequest { pictures: Vec::new(), ..*request },
            is_streamed,
            arrived,
            segmentations: Vec::new(),
            streamed_tokens: 0,
        })
    }

    fn finish(&mut self, finished: Finished<ModelExecutor>) -> io::Result<()> {
        let outcome = match finished.outcome {
            Ok(active) => self.scheduler.executor().response(active),
            Err(Abort::DeadlineExceeded) => Err(InferFault::deadline_exceeded()),
            Err(Abort::Failed(error)) => {
                Err(InferFault::unavailable(ErrorChain(&error).to_string()))
            }
        };
        self.send_outcome(finished.id, outcome)
    }

    fn send_outcome(
        &mut self,
        id: u64,
        outcome: Result<InferResponse, InferFault>,
    ) -> io::Result<()> {
        self.send(&HostEvent::Finished { id, outcome: Box::new(outcome) })
    }

    fn send(&mut self, event: &HostEvent) -> io::Result<()> {
        self.last_sent = Instant::now();
        send(&mut self.socket, event)
    }
}

fn refused(error: &ModelError) -> InferFault {
    InferFault::refused(ErrorChain(error).to_string())
}

fn message_of(message: &ChatMessage) -> Message {
    Message {
        role: match message.role {
            Role::System => MessageRole::System,
            Role::User => MessageRole::User,
            Role::Assistant => MessageRole::Assistant,
        },
        pictures: message.pictures,
        text: message.text.clone(),
    }
}

fn generation_config(model: &CitrusV, sampling: &Sampling) -> GenerationConfig {
    GenerationConfig {
        tokens_max: sampling.tokens_max,
        stop_tokens: STOP_TOKENS
            .iter()
            .filter_map(|token| model.tokenizer().token_id(token))
            .collect(),
        repetition_penalty: sampling.repetition_penalty,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        seed: sampling.seed,
    }
}

fn decode_picture(base64: &str) -> Result<Picture, InferFault> {
    let bytes = BASE64_STANDARD
        .decode(base64)
        .map_err(|error| InferFault::refused(format!("a picture is not base 64: {error}")))?;
    Picture::decode(&bytes).map_err(|error| InferFault::refused(ErrorChain(&error).to_string()))
}

fn send(socket: &mut UnixStream, event: &HostEvent) -> io::Result<()> {
    socket.write_all(&frame::encode(event)?)
}

fn receive(socket: &mut UnixStream) -> io::Result<HostCommand> {
    let mut header = [0; 4];
    socket.read_exact(&mut header)?;
    let mut json = Vec::new();
    socket.take(frame::payload_length(header)?).read_to_end(&mut json)?;
    frame::decode(&json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_memory_is_reported_with_a_way_out() {
        assert_eq!(memory_shortage(32, false, None), None);
        assert_eq!(memory_shortage(32, false, Some(32)), None);
        let reason = memory_shortage(33_200_000_000, false, Some(16_000_000_000)).unwrap();
        assert!(reason.contains("33.2 GB") && reason.contains("--eight-bit"), "{reason}");
        let reason = memory_shortage(13_300_000_000, true, Some(4_000_000_000)).unwrap();
        assert!(reason.contains("13.3 GB") && !reason.contains("--eight-bit"), "{reason}");
    }

    #[test]
    fn no_more_tokens_are_admitted_than_there_is_memory_for() {
        // 8B in f32: 114688 bytes for a token.
        let small = MemoryBudget::of(Some(2 << 30), 114_688);
        assert_eq!((small.limits.tokens, small.cache_bytes), (9362, 256 << 20));
        let large = MemoryBudget::of(Some(1 << 40), 114_688);
        assert_eq!(large, MemoryBudget { limits: Limits::default(), cache_bytes: 1 << 30 });
        let unknown = MemoryBudget::of(None, 1);
        assert_eq!(unknown, MemoryBudget { limits: Limits::default(), cache_bytes: 0 });
    }
}
