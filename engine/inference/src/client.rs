//! The engine's side of a local model: sends requests to the host process and returns its
//! responses.
//!
//! The process is started with the first request. A caller that drops the future of its request
//! cancels it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{InferRequest, InferResponse};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::launch::LaunchConfig;
use crate::model_store::ModelCard;
use crate::pending::{PendingRequest, PendingRequests, TextStream};
use crate::supervisor::{ProcessState, Supervisor, SupervisorCommand};
use crate::wire::{HostCommand, InferFault};

/// The time limit of a request that specifies no deadline.
const RESPONSE_TIMEOUT: Duration = Duration::from_hours(1);

/// The maximum number of requests in flight; further callers wait.
const IN_FLIGHT_MAX: usize = 64;

/// How long a process with requests may send nothing before it counts as hung. The longest step is
/// encoding a large picture with a large model on a busy machine.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_mins(10);

/// How often [`ModelClient::shut_down`] looks whether the process has ended.
const SHUTDOWN_POLL: Duration = Duration::from_millis(20);

/// A model of this machine, in a host process of its own.
pub struct ModelClient {
    config: LaunchConfig,
    pending: PendingRequests,
    next_id: AtomicU64,
    commands: mpsc::Sender<SupervisorCommand>,
    state: watch::Receiver<ProcessState>,
    supervisor: JoinHandle<()>,
    /// One permit per request in flight.
    permits: Semaphore,
}

impl ModelClient {
    /// Starts the supervisor of a host process. Whether the model can be loaded shows with the
    /// first request, or with [`load`](Self::load).
    pub fn start(config: LaunchConfig) -> Arc<Self> {
        Self::start_with(config, HEARTBEAT_TIMEOUT)
    }

    /// As [`start`](Self::start), with another time after which a silent process counts as hung.
    pub fn start_with(config: LaunchConfig, heartbeat_timeout: Duration) -> Arc<Self> {
        let (commands, received) = mpsc::channel(IN_FLIGHT_MAX);
        let (state_sender, state) = watch::channel(ProcessState::NotRunning);
        let pending = PendingRequests::default();
        let supervisor = Supervisor {
            config: config.clone(),
            pending: pending.clone(),
            commands: received,
            state: state_sender,
            heartbeat_timeout,
            process_number: 0,
        };
        Arc::new(Self {
            config,
            pending,
            next_id: AtomicU64::new(1),
            commands,
            state,
            supervisor: tokio::spawn(supervisor.run()),
            permits: Semaphore::new(IN_FLIGHT_MAX),
        })
    }

    /// The card of the model.
    pub const fn card(&self) -> &ModelCard {
        &self.config.card
    }

    /// What the host process is started with.
    pub const fn config(&self) -> &LaunchConfig {
        &self.config
    }

    /// Loads the model before the first request.
    ///
    /// # Errors
    ///
    /// Returns the reason if it cannot be loaded.
    pub async fn load(&self) -> Result<(), InferFault> {
        let mut state = self.state.clone();
        state.mark_unchanged();
        if matches!(*state.borrow(), ProcessState::Ready) {
            return Ok(());
        }
        self.commands.send(SupervisorCommand::Load).await.map_err(|_| engine_is_closing())?;
        state.changed().await.map_err(|_| engine_is_closing())?;
        match state.borrow_and_update().clone() {
            ProcessState::Ready => Ok(()),
            ProcessState::LoadFailed(reason) => Err(InferFault::unavailable(reason)),
            // Only a process that was ready becomes "not running".
            ProcessState::NotRunning => {
                Err(InferFault::unavailable("it ended as soon as it was loaded"))
            }
        }
    }

    /// Reads the files of the model and compares them with the digests of its card.
    ///
    /// # Errors
    ///
    /// Returns the file that differs.
    pub(crate) async fn verify(&self) -> Result<(), InferFault> {
        self.config.verify().await.map_err(InferFault::unavailable)
    }

    /// Waits until all requests are answered (their callers hold the other references), then until
    /// the process has ended.
    pub(crate) async fn shut_down(self: Arc<Self>) {
        let weak = Arc::downgrade(&self);
        let supervisor = self.supervisor.abort_handle();
        drop(self);
        while weak.strong_count() > 0 || !supervisor.is_finished() {
            tokio::time::sleep(SHUTDOWN_POLL).await;
        }
    }

    /// Sends a request and waits for the response.
    ///
    /// # Errors
    ///
    /// Returns the reason if there is no response, and whether a retry could help.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferFault> {
        self.infer_within_deadline(request, None).await
    }

    /// Sends a request and delivers the text to `subscriber` while it is generated. The delivered
    /// pieces make up the text of the response.
    ///
    /// The channel needs room for `tokens_max + 1` pieces, so that generation never waits for the
    /// subscriber.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer), and if the process ended in the middle and the next one generated
    /// another text.
    pub async fn infer_streaming(
        &self,
        request: InferRequest,
        subscriber: mpsc::Sender<String>,
    ) -> Result<InferResponse, InferFault> {
        self.infer_within_deadline(request, Some(subscriber)).await
    }

    async fn infer_within_deadline(
        &self,
        request: InferRequest,
        subscriber: Option<mpsc::Sender<String>>,
    ) -> Result<InferResponse, InferFault> {
        request.check()?;
        let limit = request.deadline_ms.map_or(RESPONSE_TIMEOUT, Duration::from_millis);
        match tokio::time::timeout(limit, self.send_and_wait(request, subscriber)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(InferFault::deadline_exceeded()),
        }
    }

    async fn send_and_wait(
        &self,
        request: InferRequest,
        subscriber: Option<mpsc::Sender<String>>,
    ) -> Result<InferResponse, InferFault> {
        let _permit = self.permits.acquire().await.map_err(|_| engine_is_closing())?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, response) = oneshot::channel();
        let pending = PendingRequest {
            request: Box::new(request),
            attempts: 0,
            sent_to: 0,
            reply,
            stream: subscriber.map(TextStream::new),
        };
        self.pending.lock().insert(id, pending);
        let _cancel =
            CancelOnDrop { id, pending: self.pending.clone(), commands: self.commands.clone() };
        self.commands.send(SupervisorCommand::Dispatch).await.map_err(|_| engine_is_closing())?;
        let mut response = response.await.map_err(|_| engine_is_closing())??;
        let card = &self.config.card;
        response.model.clone_from(&card.name);
        response.digest.clone_from(&card.digest);
        response.is_eight_bit = card.is_eight_bit;
        response.warning = card.warning().map(str::to_owned);
        Ok(response)
    }
}

fn engine_is_closing() -> InferFault {
    InferFault::unavailable("the engine is closing")
}

/// Cancels a request that has no response yet when its caller stops waiting.
struct CancelOnDrop {
    id: u64,
    pending: PendingRequests,
    commands: mpsc::Sender<SupervisorCommand>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // A request that was answered is no longer pending.
        if self.pending.lock().remove(&self.id).is_some() {
            let cancel = SupervisorCommand::Forward(HostCommand::Cancel { id: self.id });
            // If the queue is full the process computes a response that nobody receives.
            _ = self.commands.try_send(cancel);
        }
    }
}
