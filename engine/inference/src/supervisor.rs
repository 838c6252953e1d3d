//! Supervises the host process of a model: starts it, sends it the pending requests, and starts it
//! again after a crash or a hang.
//!
//! A request that was in flight when the process ended is sent to the next one, at most
//! [`ATTEMPTS_MAX`] times. Before its last attempt it is a suspect: it may be a *poison request*,
//! the one that crashes the process. A suspect is sent alone, in quarantine, so that its crash
//! costs no other request an attempt.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use citrus_v::compute::RETAIN_FREED_MEMORY;
use domain::InferResponse;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::frame;
use crate::launch::LaunchConfig;
use crate::pending::{PendingRequest, PendingRequests};
use crate::wire::{HostCommand, HostEvent, InferFault};

/// How often a request is sent to a host process before it counts as a poison request.
const ATTEMPTS_MAX: u32 = 3;

/// The pause after a process that could not be started.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// The longest interval between two checks for a hung process.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The longest time for loading the weights, from a slow disk.
const LOAD_TIMEOUT: Duration = Duration::from_mins(30);

/// A command from the client to the supervisor.
pub(crate) enum SupervisorCommand {
    /// There are new pending requests.
    Dispatch,
    /// Forward a message to the running process.
    Forward(HostCommand),
    /// Load the model although there is no request.
    Load,
}

/// Whether there is a host process that serves requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// There is none, or it is loading.
    NotRunning,
    /// It serves requests.
    Ready,
    /// It cannot be started, or cannot load the model.
    LoadFailed(String),
}

/// Why a host process ended.
#[derive(Debug, thiserror::Error)]
enum ProcessEnd {
    /// The client was dropped.
    #[error("the model is no longer in use")]
    ClientDropped,
    /// The model cannot be loaded.
    #[error("the model cannot be loaded: {0}")]
    LoadFailed(String),
    /// The process sent nothing for too long although it had requests.
    #[error("it has sent nothing for {0:?}")]
    Hung(Duration),
    /// The process sent a message out of order.
    #[error("it sent an unexpected message")]
    Protocol,
    /// The connection to the process failed: it has ended.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
}

/// The time of the last message from the process.
#[derive(Clone)]
struct LastMessage(Arc<Mutex<Instant>>);

impl LastMessage {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn update(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// The supervisor of one host process after another.
pub(crate) struct Supervisor {
    pub(crate) config: LaunchConfig,
    pub(crate) pending: PendingRequests,
    pub(crate) commands: mpsc::Receiver<SupervisorCommand>,
    pub(crate) state: watch::Sender<ProcessState>,
    /// How long a process with requests may send nothing.
    pub(crate) heartbeat_timeout: Duration,
    /// The number of the current process, counted from 1.
    pub(crate) process_number: u32,
}

/// The running process and the connection to it.
struct Connection {
    child: Child,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl Supervisor {
    /// Runs until the client is dropped.
    pub(crate) async fn run(mut self) {
        // Nothing is loaded before the first request.
        while let Some(command) = self.commands.recv().await {
            let mut is_load_requested = matches!(command, SupervisorCommand::Load);
            while is_load_requested || !self.pending.lock().is_empty() {
                is_load_requested = false;
                match self.run_process().await {
                    Ok(end) => warn!(reason = %end, "the host process of the model ended"),
                    Err(error) => {
                        warn!(%error, "the host process of the model cannot be started");
                        // The waiting callers receive an error; the cause may be gone at the next
                        // request.
                        self.fail_all(&error.to_string());
                        tokio::time::sleep(RESTART_PAUSE).await;
                    }
                }
                self.fail_poison_requests();
            }
        }
    }

    /// Starts a process, sends it all pending requests, and returns when it has ended.
    async fn run_process(&mut self) -> io::Result<ProcessEnd> {
        let verified = tokio::select! {
            verified = self.config.verify() => verified,
            () = self.state.closed() => return Ok(ProcessEnd::ClientDropped),
        };
        if let Err(reason) = verified {
            self.fail_all(&reason);
            return Ok(ProcessEnd::LoadFailed(reason));
        }
        let Connection { mut child, mut reader, mut writer } = self.spawn()?;
        let first = tokio::select! {
            first = tokio::time::timeout(LOAD_TIMEOUT, receive(&mut reader)) => first??,
            () = self.state.closed() => return Ok(ProcessEnd::ClientDropped),
        };
        match first {
            HostEvent::Ready => info!(process = child.id(), "the model is loaded"),
            HostEvent::LoadFailed { reason } => {
                self.fail_all(&reason);
                return Ok(ProcessEnd::LoadFailed(reason));
            }
            HostEvent::Heartbeat | HostEvent::TextDelta { .. } | HostEvent::Finished { .. } => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        self.state.send_replace(ProcessState::Ready);
        // A task of its own reads at all times: a process that cannot send its responses accepts
        // no requests.
        let (end_sender, end) = oneshot::channel();
        let last_message = LastMessage::new();
        let reading = read_events(reader, self.pending.clone(), last_message.clone(), end_sender);
        let reading = tokio::spawn(reading);
        let process_end = self.serve(&mut writer, &last_message, end).await;
        // The process has closed its socket or hangs. What it sent before is still processed.
        _ = child.kill().await;
        _ = reading.await;
        self.state.send_replace(ProcessState::NotRunning);
        Ok(process_end)
    }

    /// Spawns the process with one end of a socket as its standard input.
    fn spawn(&self) -> io::Result<Connection> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (variable, value) = RETAIN_FREED_MEMORY;
        let child = Command::new(&self.config.program)
            .arg("model-host")
            .arg(&self.config.checkpoint)
            .args(self.config.card.is_eight_bit.then_some("--eight-bit"))
            .args(["--device", self.config.compute.name()])
            .env(variable, value)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        Ok(Connection { child, reader, writer })
    }

    /// Sends requests until the process ends or hangs, or the client is dropped.
    async fn serve(
        &mut self,
        writer: &mut OwnedWriteHalf,
        last_message: &LastMessage,
        mut end: oneshot::Receiver<ProcessEnd>,
    ) -> ProcessEnd {
        self.process_number += 1;
        let interval = HEALTH_CHECK_INTERVAL.min(self.heartbeat_timeout / 4);
        let mut health_check = tokio::time::interval(interval);
        // The request in quarantine, if there is one; all others wait for it.
        let mut quarantined: Option<u64> = None;
        loop {
            let is_quarantine_over =
                quarantined.is_none_or(|id| !self.pending.lock().contains_key(&id));
            if is_quarantine_over {
                match self.dispatch(writer).await {
                    Ok(suspect) => quarantined = suspect,
                    Err(error) => return error.into(),
                }
            }
            tokio::select! {
                process_end = &mut end => return process_end.unwrap_or(ProcessEnd::Protocol),
                _ = health_check.tick() => {
                    if self.pending.lock().is_empty() {
                        last_message.update();
                    } else if last_message.elapsed() > self.heartbeat_timeout {
                        return ProcessEnd::Hung(self.heartbeat_timeout);
                    }
                }
                command = self.commands.recv() => match command {
                    None => return ProcessEnd::ClientDropped,
                    Some(SupervisorCommand::Forward(message)) => {
                        if let Err(error) = self.send(writer, &message).await {
                            return error.into();
                        }
                    }
                    // The next turn of the loop dispatches.
                    Some(SupervisorCommand::Dispatch | SupervisorCommand::Load) => {}
                }
            }
        }
    }

    /// Sends the pending requests that this process has not received: only the suspect if there is
    /// one, otherwise all. Returns the suspect.
    async fn dispatch(&self, writer: &mut OwnedWriteHalf) -> io::Result<Option<u64>> {
        let suspect = self.find_suspect();
        while let Some(message) = self.next_message(suspect) {
            self.send(writer, &message).await?;
        }
        Ok(suspect)
    }

    /// The first request with one attempt left that this process has not received.
    fn find_suspect(&self) -> Option<u64> {
        let pending = self.pending.lock();
        let mut unsent = pending.iter().filter(|(_, it)| it.sent_to != self.process_number);
        unsent.find(|(_, it)| it.attempts + 1 >= ATTEMPTS_MAX).map(|(id, _)| *id)
    }

    /// The next request to send, counted as another attempt.
    fn next_message(&self, suspect: Option<u64>) -> Option<HostCommand> {
        let mut pending = self.pending.lock();
        let (id, next) = pending.iter_mut().find(|(id, it)| {
            it.sent_to != self.process_number && suspect.is_none_or(|suspect| suspect == **id)
        })?;
        next.attempts += 1;
        next.sent_to = self.process_number;
        if let Some(stream) = &mut next.stream {
            stream.restart();
        }
        Some(HostCommand::Infer {
            id: *id,
            request: next.request.clone(),
            is_streamed: next.stream.is_some(),
        })
    }

    /// Sends a message. A process that hangs accepts none at some point; then the timeout ends it.
    async fn send(&self, writer: &mut OwnedWriteHalf, message: &HostCommand) -> io::Result<()> {
        let frame = frame::encode(message)?;
        tokio::time::timeout(self.heartbeat_timeout, writer.write_all(&frame)).await?
    }

    /// Fails the requests that have no attempt left, and drops those whose callers have gone.
    fn fail_poison_requests(&self) {
        let mut pending = self.pending.lock();
        let failed =
            pending.extract_if(.., |_, it| it.attempts >= ATTEMPTS_MAX || it.reply.is_closed());
        for (_, request) in failed {
            let reason = format!(
                "the host process of the model ended {ATTEMPTS_MAX} times with this request; there \
                 may be too little memory for the model or for the request"
            );
            // The caller may have gone.
            _ = request.reply.send(Err(InferFault::unavailable(reason)));
        }
    }

    /// Fails all pending requests, because the model cannot be loaded.
    fn fail_all(&self, reason: &str) {
        let reason = format!("the model cannot be loaded: {reason}");
        for (_, request) in std::mem::take(&mut *self.pending.lock()) {
            // The caller may have gone.
            _ = request.reply.send(Err(InferFault::unavailable(reason.clone())));
        }
        self.state.send_replace(ProcessState::LoadFailed(reason));
    }
}

/// Processes the messages of the process until its connection ends; then sends the reason.
async fn read_events(
    mut reader: OwnedReadHalf,
    pending: PendingRequests,
    last_message: LastMessage,
    end: oneshot::Sender<ProcessEnd>,
) {
    let process_end = loop {
        let event = receive(&mut reader).await;
        last_message.update();
        match event {
            Ok(HostEvent::Finished { id, outcome }) => {
                let request = pending.lock().remove(&id);
                if let Some(request) = request {
                    reply(request, *outcome);
                }
            }
            Ok(HostEvent::TextDelta { id, text }) => {
                let mut pending = pending.lock();
                if let Some(stream) = pending.get_mut(&id).and_then(|it| it.stream.as_mut()) {
                    stream.append(&text);
                }
            }
            Ok(HostEvent::Heartbeat) => {}
            Ok(HostEvent::Ready | HostEvent::LoadFailed { .. }) => break ProcessEnd::Protocol,
            Err(error) => break error.into(),
        }
    };
    // The supervisor may have ended the process and no longer listen.
    _ = end.send(process_end);
}

/// Sends the outcome to the caller.
fn reply(mut request: PendingRequest, outcome: Result<InferResponse, InferFault>) {
    let outcome = outcome.and_then(|response| check_stream(&mut request, response));
    // The caller may have gone.
    _ = request.reply.send(outcome);
}

/// Delivers the rest of the text, and fails if what was delivered before is not part of it.
fn check_stream(
    request: &mut PendingRequest,
    response: InferResponse,
) -> Result<InferResponse, InferFault> {
    let Some(stream) = &mut request.stream else { return Ok(response) };
    if stream.deliver_up_to(&response.text) {
        return Ok(response);
    }
    let reason = "the streamed text is not the text of this response: the host process of the model \
                  ended in the middle and the next one generated another text, or the subscriber \
                  was too slow; try again";
    Err(InferFault::unavailable(reason))
}

async fn receive(reader: &mut OwnedReadHalf) -> io::Result<HostEvent> {
    let mut header = [0; 4];
    reader.read_exact(&mut header).await?;
    let mut json = Vec::new();
    reader.take(frame::payload_length(header)?).read_to_end(&mut json).await?;
    frame::decode(&json)
}

#[cfg(test)]
mod tests {
    use citrus_v::Compute;
    use domain::{InferRequest, Priority, Sampling};

    use super::*;
    use crate::model_store::ModelCard;

    fn supervisor() -> Supervisor {
        let config = LaunchConfig {
            program: "nowhere".into(),
            checkpoint: "nowhere".into(),
            card: ModelCard::default(),
            compute: Compute::Cpu,
        };
        Supervisor {
            config,
            pending: PendingRequests::default(),
            commands: mpsc::channel(1).1,
            state: watch::channel(ProcessState::NotRunning).0,
            heartbeat_timeout: Duration::from_secs(1),
            process_number: 7,
        }
    }

    fn pending_request(attempts: u32) -> PendingRequest {
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
        PendingRequest { request: Box::new(request), attempts, sent_to: 6, reply, stream: None }
    }

    /// The requests that process 7 has received, with their attempts.
    fn sent(supervisor: &Supervisor) -> Vec<(u64, u32)> {
        let pending = supervisor.pending.lock();
        let sent = pending.iter().filter(|(_, it)| it.sent_to == 7);
        sent.map(|(id, it)| (*id, it.attempts)).collect()
    }

    #[tokio::test]
    async fn a_request_with_which_two_processes_have_ended_is_sent_alone() {
        let supervisor = supervisor();
        for (id, attempts) in [(1, 2), (2, 0), (3, 2), (4, 1)] {
            supervisor.pending.lock().insert(id, pending_request(attempts));
        }
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (_, mut writer) = ours.into_split();
        assert_eq!(supervisor.dispatch(&mut writer).await.unwrap(), Some(1));
        assert_eq!(sent(&supervisor), [(1, 3)]);
        supervisor.pending.lock().remove(&1);
        assert_eq!(supervisor.dispatch(&mut writer).await.unwrap(), Some(3));
        assert_eq!(sent(&supervisor), [(3, 3)]);
        supervisor.pending.lock().remove(&3);
        assert_eq!(supervisor.dispatch(&mut writer).await.unwrap(), None);
        assert_eq!(sent(&supervisor), [(2, 1), (4, 2)]);
        // Nothing is sent twice.
        assert_eq!(supervisor.dispatch(&mut writer).await.unwrap(), None);
        assert_eq!(sent(&supervisor), [(2, 1), (4, 2)]);
    }

    #[test]
    fn a_poison_request_fails_and_the_others_stay_pending() {
        let supervisor = supervisor();
        let mut poison = pending_request(ATTEMPTS_MAX);
        let mut healthy = pending_request(1);
        let (reply, mut outcome) = oneshot::channel();
        poison.reply = reply;
        let (reply, _caller) = oneshot::channel();
        healthy.reply = reply;
        supervisor.pending.lock().extend([(1, poison), (2, healthy), (3, pending_request(1))]);
        supervisor.fail_poison_requests();
        let fault = outcome.try_recv().unwrap().unwrap_err();
        assert!(fault.is_retryable() && fault.reason.contains("ended 3 times"), "{fault}");
        // The caller of the third request has gone.
        let pending: Vec<u64> = supervisor.pending.lock().keys().copied().collect();
        assert_eq!(pending, [2]);
    }
}
