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
    CitrusV, DType, Decoding, Device, Ending, Message, ModelError, Need, PixelBounds, Precision,
    Segmentation, Session, Speaker,
};
use domain::ErrorChain;
use imaging::Picture;

use crate::scheduler::{Ended, Limits, Network, Scheduler, Stopped};
use crate::wire::{
    AnswerMask, Ask, FRAME_BYTES_MAX, InferAnswer, InferFault, InferRequest, Role, Say,
};

/// Most questions that wait to be taken on.
const QUEUE_MAX: usize = 64;

/// A question at work.
struct Job {
    session: Session,
    /// Width and height of the first picture, as it was sent.
    source: Option<[u32; 2]>,
    drawn: Option<Vec<Segmentation>>,
    asked: Instant,
}

/// The model as the scheduler sees it: after the last word comes drawing.
struct Model(CitrusV);

impl Network for Model {
    type Job = Job;
    type Error = ModelError;

    fn need(&self, job: &Job) -> Need {
        match job.session.need() {
            Need::Nothing
                if job.drawn.is_none() && job.source.is_some() && job.session.has_segs() =>
            {
                Need::Draw
            }
            need => need,
        }
    }

    fn tokens_max(&self, job: &Job) -> usize {
        job.session.tokens_max()
    }

    fn see(&self, job: &mut Job) -> Result<(), ModelError> {
        self.0.see(&mut job.session)
    }

    fn read(&self, job: &mut Job, most: usize) -> Result<(), ModelError> {
        self.0.read(&mut job.session, most)
    }

    fn say(&self, jobs: &mut [&mut Job]) -> Result<(), ModelError> {
        let mut sessions: Vec<&mut Session> = jobs.iter_mut().map(|it| &mut it.session).collect();
        self.0.say(&mut sessions, &mut |_, _, _| {})
    }

    fn draw(&self, job: &mut Job) -> Result<(), ModelError> {
        let hidden = job.session.seg_hidden()?;
        let first = job.session.question().fitted.first();
        let drawn = match (first, hidden) {
            (Some(first), Some(hidden)) => self.0.segment(first, &hidden)?,
            _ => Vec::new(),
        };
        job.drawn = Some(drawn);
        Ok(())
    }

    fn forget(&self, job: &mut Job) {
        job.session.forget();
    }
}

/// Loads a checkpoint, in eight bits if that is wanted, and answers over the socket that is standard
/// input, until the engine closes it.
///
/// # Errors
///
/// Fails if the socket does: the engine is gone.
pub fn run(checkpoint: &Path, is_eight_bit: bool) -> io::Result<()> {
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut socket = UnixStream::from(socket);
    let precision = if is_eight_bit { Precision::Eight } else { Precision::Full(DType::F32) };
    let model = match CitrusV::load(checkpoint, precision, &Device::Cpu) {
        Ok(model) => model,
        Err(error) => {
            return say(&mut socket, &Say::Unusable { reason: ErrorChain(&error).to_string() });
        }
    };
    say(&mut socket, &Say::Ready)?;
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let reader = socket.try_clone()?;
    std::thread::Builder::new()
        .name("questions".to_owned())
        .spawn(move || listen(reader, &sender))?;
    Host {
        socket,
        incoming: Vec::new(),
        scheduler: Scheduler::new(Model(model), Limits::default()),
        begun: Instant::now(),
    }
    .serve(&receiver)
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
    incoming: Vec<(u64, Box<InferRequest>, Instant)>,
    scheduler: Scheduler<Model>,
    begun: Instant,
}

impl Host {
    fn serve(mut self, asked: &Receiver<Ask>) -> io::Result<()> {
        loop {
            // Without work there is time to wait; with work, only what is there already is taken.
            if self.scheduler.is_empty() && self.incoming.is_empty() {
                match asked.recv_timeout(Duration::from_mins(1)) {
                    Ok(ask) => self.take(ask),
                    Err(RecvTimeoutError::Timeout) => continue,
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
            for it in ended {
                self.answer(it)?;
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Cancel { id } => {
                self.incoming.retain(|it| it.0 != id);
                self.scheduler.cancel(id);
            }
            Ask::Infer { id, request } => self.incoming.push((id, request, Instant::now())),
        }
    }

    /// Takes one question apart, an urgent one first: decoding pictures takes its time, too.
    fn begin_next(&mut self) -> io::Result<()> {
        let first = self.incoming.iter().enumerate().min_by_key(|(at, it)| (it.1.priority, *at));
        let Some((index, _)) = first else { return Ok(()) };
        let (id, request, asked) = self.incoming.remove(index);
        let (now, priority) = (self.begun.elapsed(), request.priority);
        let waited = asked.elapsed();
        let rest = request.deadline_ms.map(|it| Duration::from_millis(it).saturating_sub(waited));
        let deadline = rest.map(|it| now + it);
        let added = self.begin(&request).and_then(|job| {
            let added = self.scheduler.add(id, job, priority, now, deadline);
            added.map_err(|it| InferFault::refused(it.to_string()))
        });
        match added {
            Ok(()) => Ok(()),
            Err(fault) => self.done(id, Err(fault)),
        }
    }

    fn begin(&self, request: &InferRequest) -> Result<Job, InferFault> {
        let model = &self.scheduler.network().0;
        let pictures = request.pictures.iter().map(|it| picture(it));
        let pictures: Vec<Picture> = pictures.collect::<Result<_, _>>()?;
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
        let bounds = request.pixels.map(|[min, max]| PixelBounds { min, max });
        let refused = |error: ModelError| InferFault::refused(ErrorChain(&error).to_string());
        let question = model.question(&messages, &pictures, bounds.unwrap_or_default());
        let question = question.map_err(refused)?;
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
        let source = pictures.first().map(|it| [it.width, it.height]);
        Ok(Job { session, source, drawn: None, asked: Instant::now() })
    }

    fn answer(&mut self, ended: Ended<Model>) -> io::Result<()> {
        let outcome = match ended.outcome {
            Ok(job) => self.answered(job),
            Err(Stopped::Late) => Err(InferFault::late()),
            Err(Stopped::Failed(error)) => {
                Err(InferFault::unavailable(ErrorChain(&error).to_string()))
            }
        };
        self.done(ended.id, outcome)
    }

    fn answered(&self, job: Job) -> Result<InferAnswer, InferFault> {
        let failed =
            |error: &dyn std::error::Error| InferFault::unavailable(ErrorChain(error).to_string());
        let tokens = [job.session.question().ids.len(), job.session.said().len()];
        let seen = job.session.question().fitted.first().map(|it| [it.width, it.height]);
        let answer = job.session.into_answer().map_err(|it| failed(&it))?;
        let text = self.scheduler.network().0.tokens().decode(&answer.ids);
        let text = text.map_err(|it| failed(&it))?;
        let mut said = InferAnswer::of_text(text, seen, job.source);
        let masks = job.drawn.iter().flatten().zip(job.source.into_iter().cycle());
        said.masks = masks.map(|(it, size)| AnswerMask::of(&it.mask, size, Some(it.iou))).collect();
        said.is_cut = answer.ending != Ending::Said;
        said.tokens = tokens;
        said.milliseconds = u64::try_from(job.asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(said)
    }

    fn done(&mut self, id: u64, outcome: Result<InferAnswer, InferFault>) -> io::Result<()> {
        say(&mut self.socket, &Say::Done { id, outcome: Box::new(outcome) })
    }
}

fn picture(text: &str) -> Result<Picture, InferFault> {
    let bytes = BASE64_STANDARD.decode(text);
    let bytes =
        bytes.map_err(|it| InferFault::refused(format!("a picture is not base 64: {it}")))?;
    Picture::decode(&bytes).map_err(|it| InferFault::refused(ErrorChain(&it).to_string()))
}

fn say(socket: &mut UnixStream, say: &Say) -> io::Result<()> {
    let json = serde_json::to_vec(say)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    socket.write_all(&[&length.to_le_bytes(), json.as_slice()].concat())
}

fn hear(socket: &mut UnixStream) -> io::Result<Ask> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = Vec::new();
    socket.take(length.into()).read_to_end(&mut json)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}
