//! The engine's side of plugins: finds them, starts workers, and runs nodes in them.
//!
//! A call takes an idle worker of the pinned library that has read nothing of other runs, or starts
//! one, lends it the files of the input, sends the request, serves the plugin's artifacts and
//! questions, takes the files back, and returns the worker if it can be used again. Time limit and
//! cancellation are enforced from here: a worker that does not end in time is dropped, which kills
//! its process.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{Archive, Live, Model, NodeCall, NodeFailure, NodeRunner, PluginPin};
use domain::{ErrorChain, NodeOutput};
use plugin_api::abi::v1::Status;
use plugin_api::{HostRejection, Rejection};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::catalog::{Catalog, LoadedPlugin, RefusalError, RefusedPlugin};
use crate::confinement::{ConfinementGap, confinement_gap};
use crate::inputs::{InputFolder, Lending};
use crate::package::{self, Package};
use crate::protocol::{HostMessage, PluginMessage};
use crate::signature::{Trust, signed_stamp};
use crate::worker::{ProcessStart, Worker, WorkerError};

/// Time that a cancelled plugin has to return before its worker is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// Time that a plugin has to load, and to check settings.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// Limits of the processes of plugins.
#[derive(Clone, Debug)]
pub struct PluginLimits {
    /// Upper bound of the address space of one process, in bytes.
    pub memory_bytes_max: u64,
    /// Upper bound of the number of processes that work at the same time.
    pub processes_max: usize,
    /// Whether plugins are loaded where the system cannot confine them.
    pub allow_unconfined: bool,
    /// Names of plugins whose processes serve one run after the other. They can remember what they
    /// read in earlier runs, of other patients.
    pub reused: Vec<String>,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 8 << 30,
            processes_max: 2,
            allow_unconfined: false,
            reused: Vec::new(),
        }
    }
}

/// Why the folder of plugins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A folder cannot be read, or not be made.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The system cannot confine plugins, and the site does not allow that.
    #[error(
        "plugins could read every file of the engine: {gap}. Either {}, or accept it: \
         `allow_unconfined_plugins: true` in the site file", gap.remedy()
    )]
    Unconfined {
        /// What is missing.
        gap: ConfinementGap,
    },
    /// Two plugins have the same name.
    #[error("`{}` and `{}` are both called `{name}`; remove one", first.display(), second.display())]
    DuplicateName {
        /// The name.
        name: String,
        /// The library or folder that was found first.
        first: PathBuf,
        /// The library or folder that was found second.
        second: PathBuf,
    },
}

/// A worker between two calls.
struct IdleWorker {
    worker: Worker,
    /// The run whose data it has read, if it has read any.
    run: Option<Uuid>,
}

/// Runs nodes in plugins: each plugin in a process of its own unless the site names it as inline.
pub struct PluginHost {
    engine: PathBuf,
    folder: PathBuf,
    store: PathBuf,
    archive: Arc<dyn Archive>,
    limits: PluginLimits,
    /// The folder with the models of the site, if plugins may read it.
    models: Option<PathBuf>,
    /// Why plugins are not confined, if they are not.
    gap: Option<ConfinementGap>,
    trust: Trust,
    catalog: Live<Catalog>,
    idle_workers: Mutex<HashMap<PluginPin, Vec<IdleWorker>>>,
    /// Bounds the calls that work at the same time.
    call_permits: Semaphore,
    /// Bounds the threads of inline plugins. An inline plugin that does not return holds its
    /// permit.
    inline_permits: Arc<Semaphore>,
    /// The shared model that plugins may ask.
    model: Live<Option<Arc<dyn Model>>>,
    /// The cancellation flags of runs with calls in flight.
    cancellations: Mutex<HashMap<Uuid, watch::Sender<bool>>>,
}

impl PluginHost {
    /// Finds the plugins in `folder`. `engine` is the program that is started as a plugin's
    /// process; plugins are copied to `store` under the name of their digest.
    ///
    /// # Errors
    ///
    /// Fails if a folder cannot be used, if two plugins have the same name, or if the system cannot
    /// confine plugins and `limits` do not allow that. A plugin that cannot
    /// be loaded or is not trusted is no error: see [`PluginHost::refused`].
    pub async fn open(
        engine: PathBuf,
        folder: &Path,
        store: PathBuf,
        archive: Arc<dyn Archive>,
        limits: PluginLimits,
        trust: Trust,
    ) -> Result<Self, HostError> {
        fs::create_dir_all(&store).map_err(io_error(&store))?;
        let gap = confinement_gap(archive.lent());
        if let Some(gap) = gap.clone().filter(|_| !limits.allow_unconfined) {
            return Err(HostError::Unconfined { gap });
        }
        let processes_max = limits.processes_max;
        let host = Self {
            engine,
            folder: folder.to_owned(),
            store,
            archive,
            limits,
            models: None,
            gap,
            trust,
            catalog: Live::default(),
            idle_workers: Mutex::default(),
            call_permits: Semaphore::new(processes_max),
            inline_permits: Arc::new(Semaphore::new(processes_max)),
            model: Live::default(),
            cancellations: Mutex::default(),
        };
        host.rescan().await?;
        Ok(host)
    }

    /// Lets plugins read the models of the site in a folder, which is made if it is not there:
    /// models that are imported later are seen by plugins that run already.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be made.
    pub fn with_models(mut self, models: PathBuf) -> Result<Self, HostError> {
        fs::create_dir_all(&models).map_err(io_error(&models))?;
        self.models = Some(models);
        Ok(self)
    }

    /// Reads the folder again. Runs in flight keep the plugins they are pinned to, by digest. A
    /// plugin whose replacement cannot be used stays in use.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be used, or if two plugins have the same name; nothing changes
    /// then.
    pub async fn rescan(&self) -> Result<(), HostError> {
        let previous = self.catalog.get();
        let mut catalog = Catalog { stamp: self.stamp_now(), ..Catalog::default() };
        for source in package::plugins_in(&self.folder).map_err(io_error(&self.folder))? {
            match self.load(&source).await {
                Ok(plugin) => {
                    let name = plugin.pin.name.clone();
                    info!(plugin = name, version = plugin.pin.version, "plugin loaded");
                    if let Some(first) = catalog.plugins.get(&name) {
                        let first = first.source.clone();
                        return Err(HostError::DuplicateName { name, first, second: source });
                    }
                    catalog.plugins.insert(name, plugin);
                }
                Err(error) => {
                    let reason = ErrorChain(&error).to_string();
                    let predecessor = previous.plugins.values().find(|it| it.source == source);
                    if let Some(plugin) = predecessor {
                        catalog.plugins.insert(plugin.pin.name.clone(), plugin.clone());
                    }
                    warn!(library = %source.display(), reason, "plugin refused");
                    catalog.refused.push(RefusedPlugin { source, reason });
                }
            }
        }
        self.catalog.set(catalog);
        Ok(())
    }

    /// Copies, verifies and loads one plugin.
    async fn load(&self, source: &Path) -> Result<LoadedPlugin, RefusalError> {
        let package = Package::copy(source, &self.store)?;
        let manifest = package.verify(&self.trust)?;
        let worker = self.start_process(&package.copy).await?;
        if let Some(manifest) = manifest
            && (manifest.name != worker.name || manifest.version != worker.version)
        {
            return Err(RefusalError::NameMismatch {
                signed: format!("{} {}", manifest.name, manifest.version),
                reported: format!("{} {}", worker.name, worker.version),
            });
        }
        if self.trust.is_inline(&worker.name) && package.copy.is_dir() {
            return Err(RefusalError::InlineProgram);
        }
        let pin = PluginPin {
            name: worker.name.clone(),
            version: worker.version.clone(),
            digest: package.digest,
        };
        Ok(LoadedPlugin { pin, source: source.to_owned() })
    }

    /// Sets the shared model that plugins may ask from now on, or none.
    pub fn lend(&self, model: Option<Arc<dyn Model>>) {
        self.model.set(model);
    }

    /// The plugins that runs may use, by name.
    pub fn plugins(&self) -> Vec<LoadedPlugin> {
        self.catalog.get().plugins.values().cloned().collect()
    }

    /// What lies in the folder and is not used.
    pub fn refused(&self) -> Vec<RefusedPlugin> {
        self.catalog.get().refused.clone()
    }

    /// State of the folder when it was last read.
    pub fn stamp(&self) -> String {
        self.catalog.get().stamp.clone()
    }

    /// State of the folder now. It differs from [`PluginHost::stamp`] if anything in the folder
    /// changed.
    pub fn stamp_now(&self) -> String {
        let sources = package::plugins_in(&self.folder).unwrap_or_default();
        sources.iter().map(|it| signed_stamp(it)).chain([self.trust.stamp()]).collect()
    }

    /// Checks settings for a plugin. Returns the problem with them, or nothing if they are valid.
    pub async fn check(&self, plugin: &str, settings: Value) -> Option<String> {
        let catalog = self.catalog.get();
        let Some(loaded) = catalog.plugins.get(plugin) else {
            return Some("no such plugin is loaded".to_owned());
        };
        match tokio::time::timeout(START_TIME_MAX, self.check_with(&loaded.pin, settings)).await {
            Ok(Ok(problem)) => problem,
            Ok(Err(error)) => Some(ErrorChain(&error).to_string()),
            Err(_) => Some("the plugin does not answer".to_owned()),
        }
    }

    async fn check_with(
        &self,
        pin: &PluginPin,
        settings: Value,
    ) -> Result<Option<String>, WorkerError> {
        let mut worker = self.worker(pin, None).await?;
        worker.send(&HostMessage::Check { settings }).await?;
        let PluginMessage::Checked { problem } = worker.receive().await?.message else {
            return Err(WorkerError::unexpected_message());
        };
        self.release(pin, worker, None);
        Ok(problem)
    }

    /// An idle worker of a plugin that has read nothing of other runs, or a new one. Settings are
    /// checked by one that has read nothing of any.
    async fn worker(&self, pin: &PluginPin, run: Option<Uuid>) -> Result<Worker, WorkerError> {
        if let Some(worker) = self.take_idle(pin, run) {
            return Ok(worker);
        }
        let package = package::stored(&self.store, &pin.digest);
        if !self.trust.is_inline(&pin.name) {
            return self.start_process(&package).await;
        }
        let permit = Arc::clone(&self.inline_permits).acquire_owned().await;
        Worker::start_inline(&package, permit.map_err(|_| WorkerError::ShuttingDown)?).await
    }

    /// An idle worker for a run. Those that have read the data of another run end, unless the site
    /// has the plugin reused.
    fn take_idle(&self, pin: &PluginPin, run: Option<Uuid>) -> Option<Worker> {
        let is_reused = self.limits.reused.contains(&pin.name);
        let mut workers = self.idle_workers.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = workers.get_mut(pin)?;
        let is_usable = |it: &IdleWorker| is_reused || it.run.is_none() || it.run == run;
        idle.retain(is_usable);
        idle.pop().map(|it| it.worker)
    }

    /// Why plugins are not confined, if the system cannot and the site allows it.
    pub const fn gap(&self) -> Option<&ConfinementGap> {
        self.gap.as_ref()
    }

    /// Starts a process that loads `library`.
    async fn start_process(&self, library: &Path) -> Result<Worker, WorkerError> {
        let is_unconfined = self.gap.is_some();
        let lending = if is_unconfined { Lending::Copy } else { Lending::Link };
        let inputs = InputFolder::new(self.archive.lent(), lending).map_err(WorkerError::Start)?;
        let start = ProcessStart {
            engine: &self.engine,
            library,
            models: self.models.as_deref(),
            memory_bytes_max: self.limits.memory_bytes_max,
            allow_unconfined: is_unconfined,
        };
        let worker = Worker::start(start, inputs);
        match tokio::time::timeout(START_TIME_MAX, worker).await {
            Ok(worker) => worker,
            Err(_) => Err(WorkerError::LoadTimeout),
        }
    }

    /// Makes a worker with a process of its own available to the next call of the run whose data it
    /// has read. A thread is started anew each time, which costs nothing.
    fn release(&self, pin: &PluginPin, worker: Worker, run: Option<Uuid>) {
        if !worker.is_child() {
            return;
        }
        let mut workers = self.idle_workers.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = workers.entry(pin.clone()).or_default();
        if idle.len() < self.limits.processes_max {
            idle.push(IdleWorker { worker, run });
        }
    }

    /// Takes the files of a call back from a worker, and makes it available to the next call. One
    /// that keeps them is ended.
    async fn release_after_call(&self, pin: &PluginPin, worker: Worker, run: Uuid) {
        match worker.take_back().await {
            Ok(()) => self.release(pin, worker, Some(run)),
            Err(error) => warn!(plugin = pin.name, %error, "its input cannot be removed; it ends"),
        }
    }

    /// Runs a node in one worker, and releases the worker if it can be used again.
    async fn run_in_worker(
        &self,
        call: NodeCall,
        mut cancellation: watch::Receiver<bool>,
    ) -> Result<NodeOutput, NodeFailure> {
        let run = call.run;
        let worker = self.worker(&call.plugin, Some(run)).await;
        let mut worker = worker.map_err(|it| worker_failure(&it))?;
        let files = worker.lend(call.files).await.map_err(|error| NodeFailure::Retryable {
            reason: format!("the images cannot be lent to the plugin: {error}"),
        })?;
        let input = Box::new(call.input);
        let request = HostMessage::Process { settings: call.settings, input, files };
        worker.send(&request).await.map_err(|it| worker_failure(&it))?;
        let done = tokio::select! {
            done = self.serve_until_done(&mut worker, &call.plugin) => done?,
            () = cancelled(&mut cancellation) => {
                worker.cancel().await;
                let stopped = self.serve_until_done(&mut worker, &call.plugin);
                if let Ok(Ok(_)) = tokio::time::timeout(CANCEL_GRACE, stopped).await {
                    self.release_after_call(&call.plugin, worker, run).await;
                }
                return Err(NodeFailure::Cancelled);
            }
        };
        // A panic may leave the process in any state: it is not used again.
        if done.status != Status::PANICKED {
            self.release_after_call(&call.plugin, worker, run).await;
        }
        done.into_output()
    }

    /// Serves the plugin's log lines, artifacts and questions until it responds to the request.
    async fn serve_until_done(
        &self,
        worker: &mut Worker,
        plugin: &PluginPin,
    ) -> Result<Done, NodeFailure> {
        loop {
            let received = worker.receive().await.map_err(|it| worker_failure(&it))?;
            match received.message {
                PluginMessage::Done { status, body } => {
                    return Ok(Done { status: Status(status), body });
                }
                PluginMessage::Log { level, message } => match level {
                    1 | 2 => warn!(plugin = plugin.name, message),
                    3 => info!(plugin = plugin.name, message),
                    _ => debug!(plugin = plugin.name, message),
                },
                PluginMessage::Artifact => {
                    let stored = self.archive.store_artifact(received.attachment).await;
                    stored.map_err(|error| NodeFailure::Retryable {
                        reason: format!("an artifact cannot be stored: {error}"),
                    })?;
                }
                PluginMessage::Infer => {
                    let response = self.ask_model(&received.attachment).await;
                    worker.send(&response).await.map_err(|it| worker_failure(&it))?;
                }
                PluginMessage::Ready { .. }
                | PluginMessage::Unusable { .. }
                | PluginMessage::Checked { .. } => {
                    return Err(worker_failure(&WorkerError::unexpected_message()));
                }
            }
        }
    }

    /// Asks the shared model for a plugin.
    async fn ask_model(&self, question: &[u8]) -> HostMessage {
        let Some(model) = self.model.get().as_ref().clone() else {
            let body = "no model is configured: `model` in the site file".to_owned();
            return HostMessage::Inferred { status: Status::UNAVAILABLE.0, body };
        };
        match model.infer(question).await {
            Ok(body) => HostMessage::Inferred { status: Status::OK.0, body },
            Err(fault) if fault.is_retryable => {
                HostMessage::Inferred { status: Status::UNAVAILABLE.0, body: fault.reason }
            }
            Err(fault) => {
                let code = HostRejection::QuestionRefused.name().to_owned();
                let rejection = Rejection { code, reason: fault.reason };
                let body = serde_json::to_string(&rejection).unwrap_or_default();
                HostMessage::Inferred { status: Status::REJECTED.0, body }
            }
        }
    }
}

/// Waits for a cancellation; indefinitely if nobody is left who could cancel.
async fn cancelled(cancellation: &mut watch::Receiver<bool>) {
    if cancellation.wait_for(|is_cancelled| *is_cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The failure of a node whose worker cannot be used.
fn worker_failure(error: &WorkerError) -> NodeFailure {
    NodeFailure::Retryable { reason: ErrorChain(error).to_string() }
}

/// A plugin's response to a request to work on a node.
struct Done {
    status: Status,
    body: String,
}

impl Done {
    fn into_output(self) -> Result<NodeOutput, NodeFailure> {
        let reason = match self.status {
            Status::OK => match serde_json::from_str(&self.body) {
                Ok(output) => return Ok(output),
                Err(error) => format!("the plugin's answer is not an output: {error}"),
            },
            Status::REJECTED => match serde_json::from_str(&self.body) {
                Ok(Rejection { code, reason }) => {
                    return Err(NodeFailure::Rejected { code, reason });
                }
                Err(_) => "the plugin rejected its input without a code and a reason".to_owned(),
            },
            Status::UNAVAILABLE => self.body,
            Status::PANICKED => format!("the plugin panicked: {}", self.body),
            Status(other) => format!("the plugin answered with the unknown status {other}"),
        };
        Err(NodeFailure::Retryable { reason })
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> HostError {
    let path = path.to_owned();
    move |source| HostError::Io { path, source }
}

#[async_trait]
impl NodeRunner for PluginHost {
    fn pin(&self, plugin: &str) -> Option<PluginPin> {
        self.catalog.get().plugins.get(plugin).map(|it| it.pin.clone())
    }

    async fn run(&self, call: NodeCall) -> Result<NodeOutput, NodeFailure> {
        let permit = self.call_permits.acquire().await;
        let _permit = permit.map_err(|_| NodeFailure::Cancelled)?;
        let run = call.run;
        let deadline = call.deadline;
        let cancellation = {
            let mut flags = self.cancellations.lock().unwrap_or_else(PoisonError::into_inner);
            flags.entry(run).or_insert_with(|| watch::channel(false).0).subscribe()
        };
        // A timeout drops the worker, which kills its process.
        let outcome = tokio::time::timeout(deadline, self.run_in_worker(call, cancellation)).await;
        let mut flags = self.cancellations.lock().unwrap_or_else(PoisonError::into_inner);
        if flags.get(&run).is_some_and(|it| it.receiver_count() == 0) {
            flags.remove(&run);
        }
        outcome.unwrap_or_else(|_| {
            let reason = format!("the plugin took longer than {} s", deadline.as_secs());
            Err(NodeFailure::Retryable { reason })
        })
    }

    async fn cancel(&self, run: Uuid) {
        let flags = self.cancellations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flag) = flags.get(&run) {
            flag.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: Status, body: &str) -> Result<NodeOutput, NodeFailure> {
        Done { status, body: body.to_owned() }.into_output()
    }

    #[test]
    fn an_output_and_a_rejection_are_taken_as_the_plugin_wrote_them() {
        assert_eq!(output(Status::OK, "{}"), Ok(NodeOutput::default()));
        let rejected = output(Status::REJECTED, r#"{"code": "no_study", "reason": "none"}"#);
        let code = "no_study".to_owned();
        let reason = "none".to_owned();
        assert_eq!(rejected, Err(NodeFailure::Rejected { code, reason }));
    }

    #[test]
    fn every_fault_of_the_plugin_itself_may_be_retried() {
        for (status, body) in [
            (Status::OK, "no JSON"),
            (Status::REJECTED, "no JSON"),
            (Status::UNAVAILABLE, "busy"),
            (Status::PANICKED, "index out of bounds"),
            (Status(17), ""),
        ] {
            let outcome = output(status, body);
            assert!(matches!(outcome, Err(NodeFailure::Retryable { .. })), "{outcome:?}");
        }
    }
}
