//! The model's own process: it alone has the device, and answers whoever asks, a step at a time.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use citrus_v::{
    CitrusV, Compute, Decoding, Message, ModelError, PixelBounds, Plan, Precision, Speaker,
};
use domain::{ErrorChain, InferAnswer, InferRequest, Role};
use imaging::Picture;

use crate::job::{AtWork, Job};
use crate::scheduler::{Ended, Limits, Scheduler, Stopped};
use crate::wire::{Ask, InferFault, Say};
use crate::{frame, memory};

/// Most questions that wait to be taken on.
const QUEUE_MAX: usize = 64;

/// How often it says that it is alive while it works.
const PULSE: Duration = Duration::from_secs(1);

/// How long after the last question all is forgotten that was remembered of patients.
const FORGETS: Duration = Duration::from_mins(10);

/// Most bytes of what was seen and read of late that are remembered.
const REMEMBERED_BYTES_MAX: u64 = 1 << 30;

/// Loads a checkpoint, on a CPU in eight bits if that is wanted, and answers over the socket that is
/// standard input, until the engine closes it.
///
/// # Errors
///
/// Fails if the socket does: the engine is gone.
pub fn run(checkpoint: &Path, is_eight_bit: bool, compute: Compute) -> io::Result<()> {
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut socket = UnixStream::from(socket);
    let model = match load(checkpoint, is_eight_bit, compute) {
        Ok(model) => model,
        Err(reason) => return say(&mut socket, &Say::Unusable { reason }),
    };
    say(&mut socket, &Say::Ready)?;
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let reader = socket.try_clone()?;
    std::thread::Builder::new()
        .name("questions".to_owned())
        .spawn(move || listen(reader, &sender))?;
    // What a GPU has, nobody says here: it is taken to have room for what is usual.
    let available = memory::available().filter(|_| model.device().is_cpu());
    let (limits, remembered) = room(available, model.bytes_of_token() as u64);
    let at_work = AtWork::new(model.remembering(remembered));
    Host {
        socket,
        incoming: Vec::new(),
        scheduler: Scheduler::new(at_work, limits),
        begun: Instant::now(),
        spoke: Instant::now(),
    }
    .serve(&receiver)
}

/// The model, where it is to compute, or why it cannot be had.
pub(crate) fn load(
    checkpoint: &Path,
    is_eight_bit: bool,
    compute: Compute,
) -> Result<CitrusV, String> {
    let told = |error: &dyn std::error::Error| ErrorChain(error).to_string();
    let (device, kind) = compute.device().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default();
        format!("no GPU can be had: {reason}; --device cpu or auto goes on without")
    })?;
    let precision =
        if is_eight_bit && device.is_cpu() { Precision::Eight } else { Precision::Full(kind) };
    if device.is_cpu() {
        let needed = Plan::read(checkpoint).map_err(|it| told(&it))?.bytes_on_cpu(is_eight_bit);
        if let Some(reason) = too_little(needed, is_eight_bit, memory::available()) {
            return Err(reason);
        }
    }
    CitrusV::load(checkpoint, precision, &device).map_err(|it| told(&it))
}

/// What to say if there is too little memory for so many bytes of weights.
fn too_little(needed: u64, is_eight_bit: bool, available: Option<u64>) -> Option<String> {
    let available = available.filter(|it| *it < needed)?;
    let giga = |it: u64| it as f64 / 1e9;
    let hint = if is_eight_bit { "" } else { ", import it with --eight-bit" };
    Some(format!(
        "its weights need {:.1} GB of memory, {:.1} GB are available: end other programs{hint}, or take \
         a smaller one",
        giga(needed),
        giga(available)
    ))
}

/// How much there may be at once beside the weights, and bytes that are remembered: half of what is
/// available for keys and values, an eighth to remember, and the rest for what a step needs. Where nobody knows,
/// nothing is remembered.
fn room(available: Option<u64>, bytes_of_token: u64) -> (Limits, usize) {
    let mut limits = Limits::default();
    let Some(available) = available else { return (limits, 0) };
    let tokens = available / 2 / bytes_of_token.max(1);
    limits.tokens = limits.tokens.min(usize::try_from(tokens).unwrap_or(usize::MAX));
    let remembered = REMEMBERED_BYTES_MAX.min(available / 8);
    (limits, usize::try_from(remembered).unwrap_or_default())
}

/// Hands on what the engine asks, until it is gone.
fn listen(mut socket: UnixStream, sender: &SyncSender<Ask>) {
    while let Ok(ask) = hear(&mut socket) {
        if sender.send(ask).is_err() {
            return;
        }
    }
}

struct Host {
    socket: UnixStream,
    /// Questions that are not taken apart yet.
    incoming: Vec<Incoming>,
    scheduler: Scheduler<AtWork>,
    begun: Instant,
    /// When anything was said last.
    spoke: Instant,
}

/// A question as it came.
struct Incoming {
    id: u64,
    request: Box<InferRequest>,
    is_heard: bool,
    asked: Instant,
}

impl Host {
    fn serve(mut self, asked: &Receiver<Ask>) -> io::Result<()> {
        loop {
            // Without work there is time to wait; with work, only what is there already is taken.
            if self.scheduler.is_empty() && self.incoming.is_empty() {
                match asked.recv_timeout(FORGETS) {
                    Ok(ask) => self.take(ask),
                    Err(RecvTimeoutError::Timeout) => {
                        self.scheduler.network().model.forget_all();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
            loop {
                match asked.try_recv() {
                    Ok(ask) => self.take(ask),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.begin_next()?;
            let (_, ended) = self.scheduler.step(self.begun.elapsed());
            for (id, text) in self.scheduler.network().said() {
                self.tell(&Say::Said { id, text })?;
            }
            for it in ended {
                self.answer(it)?;
            }
            if self.spoke.elapsed() > PULSE {
                self.tell(&Say::Alive)?;
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Cancel { id } => {
                self.incoming.retain(|it| it.id != id);
                self.scheduler.cancel(id);
            }
            Ask::Infer { id, request, is_heard } => {
                let asked = Instant::now();
                self.incoming.push(Incoming { id, request, is_heard, asked });
            }
        }
    }

    /// Takes one question apart, an urgent one first: decoding pictures takes its time, too.
    fn begin_next(&mut self) -> io::Result<()> {
        let first =
            self.incoming.iter().enumerate().min_by_key(|(at, it)| (it.request.priority, *at));
        let Some((index, _)) = first else { return Ok(()) };
        let Incoming { id, request, is_heard, asked } = self.incoming.remove(index);
        let (now, priority) = (self.begun.elapsed(), request.priority);
        let waited = asked.elapsed();
        let rest = request.deadline_ms.map(|it| Duration::from_millis(it).saturating_sub(waited));
        let deadline = rest.map(|it| now + it);
        let added = self.begin(id, *request, (is_heard, asked)).and_then(|job| {
            let added = self.scheduler.add(id, job, priority, now, deadline);
            added.map_err(|it| InferFault::refused(it.to_string()))
        });
        match added {
            Ok(()) => Ok(()),
            Err(fault) => self.done(id, Err(fault)),
        }
    }

    fn begin(
        &self,
        id: u64,
        request: InferRequest,
        heard: (bool, Instant),
    ) -> Result<Job, InferFault> {
        let model = &self.scheduler.network().model;
        let bounds = request.pixels.map(|[min, max]| PixelBounds { min, max });
        let bounds = bounds.unwrap_or_default();
        let refused = |error: ModelError| InferFault::refused(ErrorChain(&error).to_string());
        // One by one: of each only what the model sees is kept.
        let (mut pictures, mut sources) = (Vec::new(), Vec::new());
        for it in &request.pictures {
            let picture = picture(it)?;
            sources.push([picture.width, picture.height]);
            pictures.push(model.fitted(&picture, bounds).map_err(refused)?);
        }
        let messages: Vec<Message> = request
            .messages
            .iter()
            .map(|it| Message {
                speaker: match it.role {
                    Role::System => Speaker::System,
                    Role::User => Speaker::User,
                    Role::Assistant => Speaker::Assistant,
                },
                pictures: it.pictures,
                text: it.text.clone(),
            })
            .collect();
        let question = model.question_of(&messages, pictures).map_err(refused)?;
        let stop = ["<|im_end|>", "<|endoftext|>"].iter().filter_map(|it| model.tokens().id(it));
        let sampling = &request.sampling;
        let decoding = Decoding {
            tokens_max: sampling.tokens_max,
            stop: stop.collect(),
            repetition_penalty: sampling.repetition_penalty,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            seed: sampling.seed,
        };
        let session = model.begin(question, &decoding).map_err(refused)?;
        Ok(Job::new(id, session, sources, request, heard))
    }

    fn answer(&mut self, ended: Ended<AtWork>) -> io::Result<()> {
        let outcome = match ended.outcome {
            Ok(job) => self.scheduler.network().answered(job),
            Err(Stopped::Late) => Err(InferFault::late()),
            Err(Stopped::Failed(error)) => {
                Err(InferFault::unavailable(ErrorChain(&error).to_string()))
            }
        };
        self.done(ended.id, outcome)
    }

    fn done(&mut self, id: u64, outcome: Result<InferAnswer, InferFault>) -> io::Result<()> {
        self.tell(&Say::Done { id, outcome: Box::new(outcome) })
    }

    fn tell(&mut self, what: &Say) -> io::Result<()> {
        self.spoke = Instant::now();
        say(&mut self.socket, what)
    }
}

fn picture(text: &str) -> Result<Picture, InferFault> {
    let bytes = BASE64_STANDARD.decode(text);
    let bytes =
        bytes.map_err(|it| InferFault::refused(format!("a picture is not base 64: {it}")))?;
    Picture::decode(&bytes).map_err(|it| InferFault::refused(ErrorChain(&it).to_string()))
}

fn say(socket: &mut UnixStream, say: &Say) -> io::Result<()> {
    socket.write_all(&frame::written(say)?)
}

fn hear(socket: &mut UnixStream) -> io::Result<Ask> {
    let mut head = [0; 4];
    socket.read_exact(&mut head)?;
    let mut json = Vec::new();
    socket.take(frame::length(head)?).read_to_end(&mut json)?;
    frame::read(&json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_memory_is_told_with_what_to_do() {
        assert_eq!(too_little(32, false, None), None);
        assert_eq!(too_little(32, false, Some(32)), None);
        let told = too_little(33_200_000_000, false, Some(16_000_000_000)).unwrap();
        assert!(told.contains("33.2 GB") && told.contains("--eight-bit"), "{told}");
        let told = too_little(13_300_000_000, true, Some(4_000_000_000)).unwrap();
        assert!(told.contains("13.3 GB") && !told.contains("--eight-bit"), "{told}");
    }

    #[test]
    fn no_more_is_taken_on_than_there_is_memory_for() {
        let usual = Limits::default();
        // 8B in f32: 114688 bytes for a token.
        let (limits, remembered) = room(Some(2 << 30), 114_688);
        assert_eq!((limits.tokens, remembered), (9362, 256 << 20));
        let (limits, remembered) = room(Some(1 << 40), 114_688);
        assert_eq!((limits, remembered), (usual, 1 << 30));
        assert_eq!(room(None, 1), (usual, 0));
    }
}
