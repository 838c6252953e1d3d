//! The engine's side: starts the model's process, asks it, and starts it again if it ends.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{Model, ModelFault};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{info, warn};

use crate::model_store::ModelCard;
use crate::wire::{Ask, FRAME_BYTES_MAX, InferAnswer, InferFault, InferRequest, Say};

/// How often a question is asked again because the process ended with it.
const TRIES_MAX: u32 = 3;

/// How long to wait before the process is started again, after it could not be.
const REST: Duration = Duration::from_secs(2);

/// Longest wait for an answer where the question names no deadline.
const ANSWER_MAX: Duration = Duration::from_hours(1);

/// Most questions at once.
const QUEUE_MAX: usize = 64;

/// A question that waits for its answer.
struct Open {
    request: Box<InferRequest>,
    tries: u32,
    reply: oneshot::Sender<Result<InferAnswer, InferFault>>,
}

/// All that wait for an answer.
#[derive(Clone, Default)]
struct Questions(Arc<Mutex<BTreeMap<u64, Open>>>);

impl Questions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The model of a site, in a process of its own.
pub struct SharedModel {
    card: ModelCard,
    questions: Questions,
    next: AtomicU64,
    bell: mpsc::Sender<Ask>,
    /// How many may ask at once.
    places: Semaphore,
}

impl SharedModel {
    /// Keeps a process with this checkpoint: `engine` is the program that can be one. Whether the model
    /// can be loaded shows with the first question.
    pub fn start(engine: PathBuf, checkpoint: PathBuf, card: ModelCard) -> Arc<Self> {
        let (bell, asked) = mpsc::channel(QUEUE_MAX);
        let questions = Questions::default();
        let (is_eight_bit, shared) = (card.is_eight_bit, questions.clone());
        let keeper = Keeper { engine, checkpoint, is_eight_bit, questions: shared, asked };
        tokio::spawn(keeper.keep());
        let places = Semaphore::new(QUEUE_MAX);
        Arc::new(Self { card, questions, next: AtomicU64::new(1), bell, places })
    }

    /// What is known of it.
    pub const fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Asks it. Whoever stops waiting takes the question back.
    ///
    /// # Errors
    ///
    /// Says why there is no answer, and whether there may be one another time.
    pub async fn infer(&self, request: InferRequest) -> Result<InferAnswer, InferFault> {
        request.check()?;
        let limit = request.deadline_ms.map_or(ANSWER_MAX, Duration::from_millis);
        match tokio::time::timeout(limit, self.asked(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(InferFault::late()),
        }
    }

    async fn asked(&self, request: InferRequest) -> Result<InferAnswer, InferFault> {
        let gone = || InferFault::unavailable("the engine is closing");
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let request = Box::new(request);
        let open = Open { request: request.clone(), tries: 0, reply };
        self.questions.lock().insert(id, open);
        let (questions, bell) = (self.questions.clone(), self.bell.clone());
        let _taken_back = TakenBack { id, questions, bell };
        self.bell.send(Ask::Infer { id, request }).await.map_err(|_| gone())?;
        let mut answer = answer.await.map_err(|_| gone())??;
        answer.model.clone_from(&self.card.name);
        answer.digest.clone_from(&self.card.digest);
        answer.warning = self.card.warning().map(str::to_owned);
        Ok(answer)
    }
}

#[async_trait]
impl Model for SharedModel {
    async fn infer(&self, request: &[u8]) -> Result<String, ModelFault> {
        let request = InferRequest::parse(request)?;
        Ok(Self::infer(self, request).await?.to_json()?)
    }
}

/// Takes a question back when nobody waits for it any more.
struct TakenBack {
    id: u64,
    questions: Questions,
    bell: mpsc::Sender<Ask>,
}

impl Drop for TakenBack {
    fn drop(&mut self) {
        // One that was answered is known to nobody any more.
        if self.questions.lock().remove(&self.id).is_some() {
            // With a full queue the process answers for nobody.
            _ = self.bell.try_send(Ask::Cancel { id: self.id });
        }
    }
}

/// Keeps the process.
struct Keeper {
    engine: PathBuf,
    checkpoint: PathBuf,
    is_eight_bit: bool,
    questions: Questions,
    asked: mpsc::Receiver<Ask>,
}

impl Keeper {
    async fn keep(mut self) {
        // Nothing is loaded before somebody asks.
        while self.asked.recv().await.is_some() {
            while !self.questions.lock().is_empty() {
                match self.process().await {
                    Ok(ended) => warn!(reason = ended, "the model's process ended"),
                    Err(error) => {
                        warn!(%error, "the model's process cannot be started");
                        // Whoever waits for it has had a try.
                        for open in self.questions.lock().values_mut() {
                            open.tries += 1;
                        }
                        tokio::time::sleep(REST).await;
                    }
                }
                self.drop_hopeless();
            }
        }
    }

    /// Starts a process, asks it everything that is open, and goes on until it ends.
    async fn process(&mut self) -> io::Result<String> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child: Child = Command::new(&self.engine)
            .arg("model-host")
            .arg(&self.checkpoint)
            .args(self.is_eight_bit.then_some("--eight-bit"))
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (mut reader, mut writer) = UnixStream::from_std(ours)?.into_split();
        match hear(&mut reader).await? {
            Say::Ready => info!(process = child.id(), "the model is loaded"),
            Say::Unusable { reason } => {
                self.refuse_all(&reason);
                return Ok(reason);
            }
            Say::Done { .. } => return Err(io::ErrorKind::InvalidData.into()),
        }
        // Somebody reads at all times: a process that cannot get rid of its answers takes no questions.
        let (tell, ended) = oneshot::channel();
        let listening = tokio::spawn(listen(reader, self.questions.clone(), tell));
        let outcome = self.converse(&mut writer, ended).await;
        // It has closed its socket; what is left of it goes.
        _ = child.kill().await;
        listening.abort();
        Ok(outcome)
    }

    async fn converse(
        &mut self,
        writer: &mut OwnedWriteHalf,
        mut ended: oneshot::Receiver<String>,
    ) -> String {
        let ask = |(id, open): (&u64, &mut Open)| {
            open.tries += 1;
            Ask::Infer { id: *id, request: open.request.clone() }
        };
        let open: Vec<Ask> = self.questions.lock().iter_mut().map(ask).collect();
        for ask in open {
            if let Err(error) = write(writer, &ask).await {
                return error.to_string();
            }
        }
        loop {
            tokio::select! {
                how = &mut ended => return how.unwrap_or_default(),
                asked = self.asked.recv() => {
                    let Some(ask) = asked else { return "the engine is closing".to_owned() };
                    if let Err(error) = self.ask(writer, ask).await {
                        return error.to_string();
                    }
                }
            }
        }
    }

    async fn ask(&self, writer: &mut OwnedWriteHalf, ask: Ask) -> io::Result<()> {
        if let Ask::Infer { id, .. } = &ask {
            match self.questions.lock().get_mut(id) {
                Some(open) if open.tries == 0 => open.tries = 1,
                // Asked when the process was started, or taken back.
                _ => return Ok(()),
            }
        }
        write(writer, &ask).await
    }

    /// Gives up on what the process ended with again and again.
    fn drop_hopeless(&self) {
        let mut questions = self.questions.lock();
        let hopeless: Vec<u64> = questions
            .iter()
            .filter(|(_, it)| it.tries >= TRIES_MAX || it.reply.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in hopeless {
            if let Some(open) = questions.remove(&id) {
                let reason = format!(
                    "the model's process ended {TRIES_MAX} times with this question; there may be \
                     too little memory for the model or for the question"
                );
                _ = open.reply.send(Err(InferFault::unavailable(reason)));
            }
        }
    }

    fn refuse_all(&self, reason: &str) {
        for (_, open) in std::mem::take(&mut *self.questions.lock()) {
            let reason = format!("the model cannot be loaded: {reason}");
            _ = open.reply.send(Err(InferFault::unavailable(reason)));
        }
    }
}

/// Hands on what the process says, until it ends; then tells how.
async fn listen(mut reader: OwnedReadHalf, questions: Questions, ended: oneshot::Sender<String>) {
    let how = loop {
        match hear(&mut reader).await {
            Ok(Say::Done { id, outcome }) => {
                let open = questions.lock().remove(&id);
                if let Some(open) = open {
                    // Whoever asked may have gone.
                    _ = open.reply.send(*outcome);
                }
            }
            Ok(_) => break "it talks nonsense".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    // Whoever kept the process may have ended it.
    _ = ended.send(how);
}

async fn write(writer: &mut OwnedWriteHalf, ask: &Ask) -> io::Result<()> {
    let json = serde_json::to_vec(ask)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    writer.write_all(&length.to_le_bytes()).await?;
    writer.write_all(&json).await
}

async fn hear(reader: &mut OwnedReadHalf) -> io::Result<Say> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length);
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = Vec::new();
    reader.take(length.into()).read_to_end(&mut json).await?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}
