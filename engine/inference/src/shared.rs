//! The engine's side of a model in a process of its own: asks it, and gives its answers back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{InferAnswer, InferRequest};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::keeper::{Bell, Keeper, State};
use crate::model_store::ModelCard;
use crate::questions::{Heard, Open, Questions, Start};
use crate::wire::{Ask, InferFault};

/// Longest wait for an answer where the question names no deadline.
const ANSWER_MAX: Duration = Duration::from_hours(1);

/// Most questions at once.
const QUEUE_MAX: usize = 64;

/// How long a process that has questions may say nothing at all before it is taken for dead. The
/// longest step is seeing a large picture with a large model, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(10);

/// The model of a site, in a process of its own.
pub struct SharedModel {
    start: Start,
    questions: Questions,
    next: AtomicU64,
    bell: mpsc::Sender<Bell>,
    state: watch::Receiver<State>,
    keeper: JoinHandle<()>,
    /// How many may ask at once.
    places: Semaphore,
}

impl SharedModel {
    /// Keeps a process with this checkpoint. Whether the model can be loaded shows with the first
    /// question, or with [`load`](Self::load).
    pub fn start(start: Start) -> Arc<Self> {
        Self::start_with(start, PATIENCE)
    }

    /// The same, with a process that may say nothing for so long.
    pub fn start_with(start: Start, patience: Duration) -> Arc<Self> {
        let (bell, asked) = mpsc::channel(QUEUE_MAX);
        let (tell, state) = watch::channel(State::Resting);
        let questions = Questions::default();
        let keeper = Keeper {
            start: start.clone(),
            questions: questions.clone(),
            asked,
            tell,
            patience,
            number: 0,
        };
        let keeper = tokio::spawn(keeper.keep());
        let places = Semaphore::new(QUEUE_MAX);
        Arc::new(Self { start, questions, next: AtomicU64::new(1), bell, state, keeper, places })
    }

    /// What is known of it.
    pub const fn card(&self) -> &ModelCard {
        &self.start.card
    }

    /// What it was started with.
    pub const fn started_with(&self) -> &Start {
        &self.start
    }

    /// Loads it before anybody asks.
    ///
    /// # Errors
    ///
    /// Says why it cannot be loaded.
    pub async fn load(&self) -> Result<(), InferFault> {
        let gone = || InferFault::unavailable("the engine is closing");
        let mut state = self.state.clone();
        state.mark_unchanged();
        if matches!(*state.borrow(), State::Ready) {
            return Ok(());
        }
        self.bell.send(Bell::Load).await.map_err(|_| gone())?;
        state.changed().await.map_err(|_| gone())?;
        match state.borrow_and_update().clone() {
            State::Ready => Ok(()),
            State::Unusable(reason) => Err(InferFault::unavailable(reason)),
            // It is told only of one that was ready.
            State::Resting => Err(InferFault::unavailable("it ended as soon as it was loaded")),
        }
    }

    /// Reads its files, and says whether they are what was taken in.
    ///
    /// # Errors
    ///
    /// Says which is not.
    pub(crate) async fn verify(&self) -> Result<(), InferFault> {
        self.start.verify().await.map_err(InferFault::unavailable)
    }

    /// Ends its process, once everybody has their answer: whoever asks it holds it.
    pub(crate) async fn ended(self: Arc<Self>) {
        let weak = Arc::downgrade(&self);
        let keeper = self.keeper.abort_handle();
        drop(self);
        while weak.strong_count() > 0 || !keeper.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it. Whoever stops waiting takes the question back.
    ///
    /// # Errors
    ///
    /// Says why there is no answer, and whether there may be one another time.
    pub async fn infer(&self, request: InferRequest) -> Result<InferAnswer, InferFault> {
        self.within(request, None).await
    }

    /// Asks it, and passes the answer on to `listener` word by word while it is said. All that was
    /// passed on is the whole answer in the end. The listener has room for `tokens_max` words and one
    /// more, so that nobody waits for it.
    ///
    /// # Errors
    ///
    /// Says why there is no answer. There is none either, if the process ended in the middle and the next
    /// one said something else.
    pub async fn infer_heard(
        &self,
        request: InferRequest,
        listener: mpsc::Sender<String>,
    ) -> Result<InferAnswer, InferFault> {
        self.within(request, Some(listener)).await
    }

    async fn within(
        &self,
        request: InferRequest,
        listener: Option<mpsc::Sender<String>>,
    ) -> Result<InferAnswer, InferFault> {
        request.check()?;
        let limit = request.deadline_ms.map_or(ANSWER_MAX, Duration::from_millis);
        match tokio::time::timeout(limit, self.asked(request, listener)).await {
            Ok(answer) => answer,
            Err(_) => Err(InferFault::late()),
        }
    }

    async fn asked(
        &self,
        request: InferRequest,
        listener: Option<mpsc::Sender<String>>,
    ) -> Result<InferAnswer, InferFault> {
        let gone = || InferFault::unavailable("the engine is closing");
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let request = Box::new(request);
        let is_heard = listener.is_some();
        let heard = listener.map(Heard::new);
        let open = Open { request: request.clone(), tries: 0, reply, heard, asked_of: 0 };
        self.questions.lock().insert(id, open);
        let (questions, bell) = (self.questions.clone(), self.bell.clone());
        let _taken_back = TakenBack { id, questions, bell };
        let ask = Bell::Ask(Ask::Infer { id, request, is_heard });
        self.bell.send(ask).await.map_err(|_| gone())?;
        let mut answer = answer.await.map_err(|_| gone())??;
        answer.model.clone_from(&self.start.card.name);
        answer.digest.clone_from(&self.start.card.digest);
        answer.is_eight_bit = self.start.card.is_eight_bit;
        answer.warning = self.start.card.warning().map(str::to_owned);
        Ok(answer)
    }
}

/// Takes a question back when nobody waits for it any more.
struct TakenBack {
    id: u64,
    questions: Questions,
    bell: mpsc::Sender<Bell>,
}

impl Drop for TakenBack {
    fn drop(&mut self) {
        // One that was answered is known to nobody any more.
        if self.questions.lock().remove(&self.id).is_some() {
            // With a full queue the process answers for nobody.
            _ = self.bell.try_send(Bell::Ask(Ask::Cancel { id: self.id }));
        }
    }
}
