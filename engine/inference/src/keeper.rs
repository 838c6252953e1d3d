//! Keeps the model's process: starts it, hands it questions, and starts it again if it ends or hangs.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use citrus_v::compute::MEMORY_STAYS;
use domain::InferAnswer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::frame;
use crate::questions::{Heard, Open, Questions, Start};
use crate::wire::{Ask, InferFault, Say};

/// How often a question is asked again because the process ended with it.
const TRIES_MAX: u32 = 3;

/// How long to wait before the process is started again, after it could not be.
const REST: Duration = Duration::from_secs(2);

/// How often the keeper looks how it is with the process.
const LOOK: Duration = Duration::from_millis(250);

/// Why a process ends that nobody can ask.
const UNASKED: &str = "nobody asks it any more";

/// Longest wait for the weights to be read, from a slow disk.
const LOAD_MAX: Duration = Duration::from_mins(30);

/// What wakes the keeper.
pub(crate) enum Bell {
    /// Something for the process.
    Ask(Ask),
    /// The model is to be loaded, though nobody asks yet.
    Load,
}

/// How it is with the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There is none, or it is loading.
    Resting,
    /// It answers.
    Ready,
    /// There can be none.
    Unusable(String),
}

/// When the process was heard last.
#[derive(Clone)]
struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Keeps the process.
pub(crate) struct Keeper {
    pub(crate) start: Start,
    pub(crate) questions: Questions,
    pub(crate) asked: mpsc::Receiver<Bell>,
    pub(crate) tell: watch::Sender<State>,
    /// How long a process that has questions may say nothing.
    pub(crate) patience: Duration,
    /// Counts the processes.
    pub(crate) number: u32,
}

impl Keeper {
    pub(crate) async fn keep(mut self) {
        // Nothing is loaded before somebody asks.
        while let Some(bell) = self.asked.recv().await {
            let mut is_wanted = matches!(bell, Bell::Load);
            while is_wanted || !self.questions.lock().is_empty() {
                is_wanted = false;
                match self.process().await {
                    Ok(ended) => warn!(reason = ended, "the model's process ended"),
                    Err(error) => {
                        warn!(%error, "the model's process cannot be started");
                        // Whoever waits for it is told; the next who asks finds it mended, perhaps.
                        self.refuse_all(&error.to_string());
                        tokio::time::sleep(REST).await;
                    }
                }
                self.drop_hopeless();
            }
        }
    }

    /// Starts a process, asks it everything that is open, and goes on until it ends.
    async fn process(&mut self) -> io::Result<String> {
        let verified = tokio::select! {
            verified = self.start.verify() => verified,
            () = self.tell.closed() => return Ok(UNASKED.to_owned()),
        };
        if let Err(reason) = verified {
            self.refuse_all(&reason);
            return Ok(reason);
        }
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child: Child = Command::new(&self.start.engine)
            .arg("model-host")
            .arg(&self.start.checkpoint)
            .args(self.start.card.is_eight_bit.then_some("--eight-bit"))
            .args(["--device", self.start.compute.name()])
            .env(MEMORY_STAYS.0, MEMORY_STAYS.1)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (mut reader, mut writer) = UnixStream::from_std(ours)?.into_split();
        let first = tokio::select! {
            first = tokio::time::timeout(LOAD_MAX, hear(&mut reader)) => first??,
            () = self.tell.closed() => return Ok(UNASKED.to_owned()),
        };
        match first {
            Say::Ready => info!(process = child.id(), "the model is loaded"),
            Say::Unusable { reason } => {
                self.refuse_all(&reason);
                return Ok(reason);
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        self.tell.send_replace(State::Ready);
        // Somebody reads at all times: a process that cannot get rid of its answers takes no questions.
        let (tell, ended) = oneshot::channel();
        let pulse = Pulse::new();
        let listening = listen(reader, self.questions.clone(), pulse.clone(), tell);
        let listening = tokio::spawn(listening);
        let outcome = self.converse(&mut writer, &pulse, ended).await;
        // It has closed its socket, or hangs; what is left of it goes. What it said before is heard.
        _ = child.kill().await;
        _ = listening.await;
        self.tell.send_replace(State::Resting);
        Ok(outcome)
    }

    async fn converse(
        &mut self,
        writer: &mut OwnedWriteHalf,
        pulse: &Pulse,
        mut ended: oneshot::Receiver<String>,
    ) -> String {
        self.number += 1;
        let mut look = tokio::time::interval(LOOK.min(self.patience / 4));
        // The question that is asked by itself, if there is one; the others are held back.
        let mut alone = None;
        loop {
            let is_over = |it: u64| !self.questions.lock().contains_key(&it);
            if alone.is_none_or(is_over) {
                match self.hand_out(writer).await {
                    Ok(suspect) => alone = suspect,
                    Err(error) => return error.to_string(),
                }
            }
            tokio::select! {
                how = &mut ended => return how.unwrap_or_default(),
                _ = look.tick() => {
                    if self.questions.lock().is_empty() {
                        pulse.beat();
                    } else if pulse.silent_for() > self.patience {
                        return format!("it has said nothing for {:?}", self.patience);
                    }
                }
                asked = self.asked.recv() => match asked {
                    None => return UNASKED.to_owned(),
                    Some(Bell::Ask(cancel @ Ask::Cancel { .. })) => {
                        if let Err(error) = self.write(writer, &cancel).await {
                            return error.to_string();
                        }
                    }
                    // Handed out with the next turn.
                    Some(Bell::Ask(Ask::Infer { .. }) | Bell::Load) => {}
                }
            }
        }
    }

    /// Asks a process what it has not been asked. A question that two have ended with is asked by itself: it may
    /// be the one they ended of, and the others are not to end with it again.
    async fn hand_out(&self, writer: &mut OwnedWriteHalf) -> io::Result<Option<u64>> {
        let is_suspect = |it: &Open| it.tries + 1 >= TRIES_MAX && it.asked_of != self.number;
        let suspect = self.questions.lock().iter().find(|it| is_suspect(it.1)).map(|it| *it.0);
        loop {
            let next = {
                let mut questions = self.questions.lock();
                let is_next = |id: u64, it: &Open| {
                    it.asked_of != self.number && suspect.is_none_or(|it| it == id)
                };
                let next = questions.iter_mut().find(|(id, it)| is_next(**id, it));
                next.map(|(id, open)| {
                    open.tries += 1;
                    open.asked_of = self.number;
                    let is_heard = open.heard.as_mut().map(Heard::begin_again).is_some();
                    Ask::Infer { id: *id, request: open.request.clone(), is_heard }
                })
            };
            let Some(ask) = next else { return Ok(suspect) };
            self.write(writer, &ask).await?;
        }
    }

    /// A process that hangs takes no more at some time; whoever looks after it goes on.
    async fn write(&self, writer: &mut OwnedWriteHalf, ask: &Ask) -> io::Result<()> {
        let frame = frame::written(ask)?;
        tokio::time::timeout(self.patience, writer.write_all(&frame)).await?
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
                // Whoever asked may have gone.
                _ = open.reply.send(Err(InferFault::unavailable(reason)));
            }
        }
    }

    fn refuse_all(&self, reason: &str) {
        let reason = format!("the model cannot be loaded: {reason}");
        for (_, open) in std::mem::take(&mut *self.questions.lock()) {
            // Whoever asked may have gone.
            _ = open.reply.send(Err(InferFault::unavailable(reason.clone())));
        }
        self.tell.send_replace(State::Unusable(reason));
    }
}

/// Hands on what the process says, until it ends; then tells how.
async fn listen(
    mut reader: OwnedReadHalf,
    questions: Questions,
    pulse: Pulse,
    ended: oneshot::Sender<String>,
) {
    let how = loop {
        let heard = hear(&mut reader).await;
        pulse.beat();
        match heard {
            Ok(Say::Done { id, outcome }) => {
                let open = questions.lock().remove(&id);
                if let Some(open) = open {
                    end(open, *outcome);
                }
            }
            Ok(Say::Said { id, text }) => {
                let mut questions = questions.lock();
                if let Some(heard) = questions.get_mut(&id).and_then(|it| it.heard.as_mut()) {
                    heard.hear(&text);
                }
            }
            Ok(Say::Alive) => {}
            Ok(_) => break "it talks nonsense".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    // Whoever kept the process may have ended it.
    _ = ended.send(how);
}

/// Gives an answer to whoever asked.
fn end(mut open: Open, outcome: Result<InferAnswer, InferFault>) {
    let outcome = outcome.and_then(|answer| {
        let is_as_heard = open.heard.as_mut().is_none_or(|it| it.pass(&answer.text));
        if is_as_heard {
            return Ok(answer);
        }
        let reason = "what was passed on is not this answer: the model's process ended in the middle \
                      and the next one says something else, or nobody took the words; ask again";
        Err(InferFault::unavailable(reason))
    });
    // Whoever asked may have gone.
    _ = open.reply.send(outcome);
}

async fn hear(reader: &mut OwnedReadHalf) -> io::Result<Say> {
    let mut head = [0; 4];
    reader.read_exact(&mut head).await?;
    let mut json = Vec::new();
    reader.take(frame::length(head)?).read_to_end(&mut json).await?;
    frame::read(&json)
}

#[cfg(test)]
mod tests {
    use citrus_v::Compute;
    use domain::{InferRequest, Priority, Sampling};

    use super::*;
    use crate::model_store::ModelCard;

    fn keeper() -> Keeper {
        let nowhere = || "nowhere".into();
        let start = Start {
            engine: nowhere(),
            checkpoint: nowhere(),
            card: ModelCard::default(),
            compute: Compute::Cpu,
        };
        let (asked, tell) = (mpsc::channel(1).1, watch::channel(State::Resting).0);
        let patience = Duration::from_secs(1);
        Keeper { start, questions: Questions::default(), asked, tell, patience, number: 7 }
    }

    fn open(tries: u32) -> Open {
        let request = InferRequest {
            priority: Priority::Routine,
            deadline_ms: None,
            messages: Vec::new(),
            pictures: Vec::new(),
            mask_pictures: Vec::new(),
            pixels: None,
            sampling: Sampling::default(),
        };
        let reply = oneshot::channel().0;
        Open { request: Box::new(request), tries, reply, heard: None, asked_of: 6 }
    }

    #[tokio::test]
    async fn what_two_processes_have_ended_with_is_asked_by_itself() {
        let keeper = keeper();
        for (id, tries) in [(1, 2), (2, 0), (3, 2), (4, 1)] {
            keeper.questions.lock().insert(id, open(tries));
        }
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (_, mut writer) = ours.into_split();
        let asked = |keeper: &Keeper| {
            let questions = keeper.questions.lock();
            let asked = questions.iter().filter(|it| it.1.asked_of == 7);
            asked.map(|(id, it)| (*id, it.tries)).collect::<Vec<_>>()
        };
        assert_eq!(keeper.hand_out(&mut writer).await.unwrap(), Some(1));
        assert_eq!(asked(&keeper), [(1, 3)]);
        keeper.questions.lock().remove(&1);
        assert_eq!(keeper.hand_out(&mut writer).await.unwrap(), Some(3));
        assert_eq!(asked(&keeper), [(3, 3)]);
        keeper.questions.lock().remove(&3);
        assert_eq!(keeper.hand_out(&mut writer).await.unwrap(), None);
        assert_eq!(asked(&keeper), [(2, 1), (4, 2)]);
        // Nothing is asked twice.
        assert_eq!(keeper.hand_out(&mut writer).await.unwrap(), None);
        assert_eq!(asked(&keeper), [(2, 1), (4, 2)]);
    }
}
