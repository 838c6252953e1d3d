use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{Archive, Live, Model, NodeCall, NodeFailure, NodeRunner, PluginPin};
use domain::{ErrorChain, NodeOutput};
use plugin_api::Rejection;
use plugin_api::abi::v1::Status;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::package::{self, Package, Trust};
use crate::protocol::{Ask, Say};
use crate::worker::{Worker, WorkerError, nonsense};

/// How long a cancelled plugin may take to stop by itself.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// How long a plugin may take to load and to check settings.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// What a plugin's process may use.
#[derive(Clone, Copy, Debug)]
pub struct PluginLimits {
    /// Address space of one process.
    pub memory_bytes_max: u64,
    /// Processes at work at once.
    pub processes_max: usize,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self { memory_bytes_max: 8 << 30, processes_max: 2 }
    }
}

/// A plugin that was found.
#[derive(Clone, Debug)]
pub struct LoadedPlugin {
    /// Which.
    pub pin: PluginPin,
    /// Where it was found.
    pub source: PathBuf,
}

/// Why plugins cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A folder or library cannot be read, or a copy not be made.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two libraries have the same name.
    #[error("`{}` and `{}` are both called `{name}`; remove one", first.display(), second.display())]
    Twice {
        /// The name.
        name: String,
        /// One library.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// Has nodes worked on by plugins, each in a process of its own unless the site says otherwise.
pub struct PluginHost {
    engine: PathBuf,
    folder: PathBuf,
    store: PathBuf,
    archive: Arc<dyn Archive>,
    limits: PluginLimits,
    trust: Trust,
    plugins: Live<Found>,
    idle: Mutex<HashMap<PluginPin, Vec<Worker>>>,
    places: Semaphore,
    /// The same for plugins in this process.
    inline_places: Arc<Semaphore>,
    /// What plugins may ask.
    model: Live<Option<Arc<dyn Model>>>,
    /// Runs that are being worked on, and how to cancel them.
    running: Mutex<HashMap<Uuid, watch::Sender<bool>>>,
}

/// What was found in the folder of plugins.
#[derive(Clone, Debug, Default)]
struct Found {
    plugins: BTreeMap<String, LoadedPlugin>,
    /// What is no plugin, or must not be one, and why.
    refused: Vec<(PathBuf, String)>,
    /// How the folder stood before it was looked at.
    stamp: String,
}

impl PluginHost {
    /// Finds the plugins in `folder`. `engine` is the program that can be a plugin's process,
    /// `store` where copies are kept by their digest.
    ///
    /// # Errors
    ///
    /// Fails if a folder cannot be used or a name is taken twice. A library that is no plugin, or
    /// that nobody trusted has signed, is passed over.
    pub async fn open(
        engine: PathBuf,
        folder: &Path,
        store: PathBuf,
        archive: Arc<dyn Archive>,
        limits: PluginLimits,
        trust: Trust,
    ) -> Result<Self, HostError> {
        fs::create_dir_all(&store).map_err(io_error(&store))?;
        let host = Self {
            engine,
            folder: folder.to_owned(),
            store,
            archive,
            limits,
            trust,
            plugins: Live::default(),
            idle: Mutex::default(),
            places: Semaphore::new(limits.processes_max),
            inline_places: Arc::new(Semaphore::new(limits.processes_max)),
            model: Live::default(),
            running: Mutex::default(),
        };
        host.rescan().await?;
        Ok(host)
    }

    /// Looks at the folder again. Runs that go on keep the plugins they began with, by their digest.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be used or a name is taken twice: then all stays as it was.
    pub async fn rescan(&self) -> Result<(), HostError> {
        let before = self.plugins.get();
        let mut found = Found { stamp: self.stamp_now(), ..Found::default() };
        for source in package::plugins_in(&self.folder).map_err(io_error(&self.folder))? {
            match self.loaded(&source).await {
                Ok(plugin) => {
                    let name = plugin.pin.name.clone();
                    info!(plugin = name, version = plugin.pin.version, "plugin loaded");
                    if let Some(first) = found.plugins.get(&name) {
                        let (first, second) = (first.source.clone(), source);
                        return Err(HostError::Twice { name, first, second });
                    }
                    found.plugins.insert(name, plugin);
                }
                Err(reason) => {
                    // What was good goes on until something better is there.
                    let before = before.plugins.values().find(|it| it.source == source);
                    if let Some(before) = before {
                        found.plugins.insert(before.pin.name.clone(), before.clone());
                    }
                    warn!(library = %source.display(), reason, "not a plugin that can be used");
                    found.refused.push((source, reason));
                }
            }
        }
        self.plugins.set(found);
        Ok(())
    }

    async fn loaded(&self, source: &Path) -> Result<LoadedPlugin, String> {
        let package = Package::copied(source, &self.store)
            .map_err(|it| format!("it cannot be read: {it}"))?;
        let vouched = package.vouched(&self.trust)?;
        let worker = self.started(&package.copy).await;
        let worker = worker.map_err(|error| ErrorChain(&error).to_string())?;
        if let Some(manifest) = vouched
            && (manifest.name != worker.name || manifest.version != worker.version)
        {
            return Err("it calls itself otherwise than its signature does".to_owned());
        }
        if self.trust.is_inline(&worker.name) && package.copy.is_dir() {
            return Err("a program of its own cannot be inline: see `inline_plugins`".to_owned());
        }
        let digest = package.digest;
        let pin = PluginPin { name: worker.name.clone(), version: worker.version.clone(), digest };
        Ok(LoadedPlugin { pin, source: source.to_owned() })
    }

    /// Lets plugins ask this model from now on, or none.
    pub fn lend(&self, model: Option<Arc<dyn Model>>) {
        self.model.set(model);
    }

    /// The plugins there are.
    pub fn plugins(&self) -> Vec<LoadedPlugin> {
        self.plugins.get().plugins.values().cloned().collect()
    }

    /// What lies in the folder and is not used, and why.
    pub fn refused(&self) -> Vec<(PathBuf, String)> {
        self.plugins.get().refused.clone()
    }

    /// How the folder stood when it was last looked at.
    pub fn stamp(&self) -> String {
        self.plugins.get().stamp.clone()
    }

    /// How the folder stands now: changes whenever what lies in it does.
    pub fn stamp_now(&self) -> String {
        let found = package::plugins_in(&self.folder).unwrap_or_default();
        found.iter().map(|it| package::stamp(it)).chain([self.trust.stamp()]).collect()
    }

    /// What is wrong with settings for a plugin, if anything is.
    pub async fn check(&self, plugin: &str, settings: Value) -> Option<String> {
        let found = self.plugins.get();
        let Some(loaded) = found.plugins.get(plugin) else {
            return Some("no such plugin is loaded".to_owned());
        };
        let asked = async {
            let mut worker = self.worker(&loaded.pin).await?;
            worker.ask(&Ask::Check { settings }).await?;
            match worker.hear().await?.0 {
                Say::Checked { problem } => {
                    self.keep_idle(&loaded.pin, worker);
                    Ok(problem)
                }
                _ => Err(nonsense()),
            }
        };
        match tokio::time::timeout(START_TIME_MAX, asked).await {
            Ok(Ok(problem)) => problem,
            Ok(Err(error)) => Some(ErrorChain(&error).to_string()),
            Err(_) => Some("the plugin does not answer".to_owned()),
        }
    }

    async fn worker(&self, pin: &PluginPin) -> Result<Worker, WorkerError> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.get_mut(pin).and_then(Vec::pop)
        };
        if let Some(worker) = idle {
            return Ok(worker);
        }
        let package = package::stored(&self.store, &pin.digest);
        if !self.trust.is_inline(&pin.name) {
            return self.started(&package).await;
        }
        // One that does not return keeps its place: the engine cannot end it, and starts no more.
        let place = Arc::clone(&self.inline_places).acquire_owned().await;
        let closed = |_| WorkerError::Unusable { reason: "the engine is closing".to_owned() };
        Worker::start_inline(&package, place.map_err(closed)?).await
    }

    /// A child that has just loaded `library`.
    async fn started(&self, library: &Path) -> Result<Worker, WorkerError> {
        let (archive, memory) = (self.archive.instances(), self.limits.memory_bytes_max);
        let worker = Worker::start(&self.engine, library, archive, memory);
        match tokio::time::timeout(START_TIME_MAX, worker).await {
            Ok(worker) => worker,
            Err(_) => Err(WorkerError::Unusable { reason: "it does not load in time".to_owned() }),
        }
    }

    /// Keeps a child for the next call. A thread of ours is made in no time.
    fn keep_idle(&self, pin: &PluginPin, worker: Worker) {
        if !worker.is_child() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(pin.clone()).or_default();
        if kept.len() < self.limits.processes_max {
            kept.push(worker);
        }
    }

    /// Works on a node with one child, and gives the child back if it is still of use.
    async fn work(
        &self,
        call: NodeCall,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<NodeOutput, NodeFailure> {
        let mut worker = self.worker(&call.plugin).await.map_err(|it| lost(&it))?;
        let ask = Ask::Process {
            settings: call.settings,
            input: Box::new(call.input),
            files: call.files,
        };
        worker.ask(&ask).await.map_err(|it| lost(&it))?;
        let (status, body) = tokio::select! {
            done = self.until_done(&mut worker, &call.plugin) => done?,
            () = asked_to_stop(&mut cancelled) => {
                worker.cancel().await;
                let stopped = self.until_done(&mut worker, &call.plugin);
                if let Ok(Ok(_)) = tokio::time::timeout(CANCEL_GRACE, stopped).await {
                    self.keep_idle(&call.plugin, worker);
                }
                return Err(NodeFailure::Cancelled);
            }
        };
        // A plugin that panicked may have left anything behind: its process ends here.
        if status != Status::PANICKED {
            self.keep_idle(&call.plugin, worker);
        }
        judged(status, &body)
    }

    async fn until_done(
        &self,
        worker: &mut Worker,
        plugin: &PluginPin,
    ) -> Result<(Status, String), NodeFailure> {
        loop {
            match worker.hear().await.map_err(|it| lost(&it))? {
                (Say::Done { status, body }, _) => return Ok((Status(status), body)),
                (Say::Log { level, message }, _) => match level {
                    1 | 2 => warn!(plugin = plugin.name, message),
                    3 => info!(plugin = plugin.name, message),
                    _ => debug!(plugin = plugin.name, message),
                },
                (Say::Artifact, content) => {
                    let kept = self.archive.keep_artifact(content).await;
                    kept.map_err(|error| NodeFailure::Retryable {
                        reason: format!("an artifact cannot be kept: {error}"),
                    })?;
                }
                (Say::Infer, question) => {
                    let answer = self.asked(&question).await;
                    worker.ask(&answer).await.map_err(|it| lost(&it))?;
                }
                _ => return Err(lost(&nonsense())),
            }
        }
    }

    /// What the model says to a plugin's question.
    async fn asked(&self, question: &[u8]) -> Ask {
        let Some(model) = self.model.get().as_ref().clone() else {
            let body = "no model is configured: `model` in the site file".to_owned();
            return Ask::Inferred { status: Status::UNAVAILABLE.0, body };
        };
        match model.infer(question).await {
            Ok(body) => Ask::Inferred { status: Status::OK.0, body },
            Err(fault) => {
                let status =
                    if fault.is_retryable { Status::UNAVAILABLE } else { Status::REJECTED };
                Ask::Inferred { status: status.0, body: fault.reason }
            }
        }
    }
}

/// Waits for a cancellation. Without anybody left who could cancel, for ever.
async fn asked_to_stop(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|it| *it).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn lost(error: &WorkerError) -> NodeFailure {
    NodeFailure::Retryable { reason: ErrorChain(error).to_string() }
}

fn judged(status: Status, body: &str) -> Result<NodeOutput, NodeFailure> {
    let retryable = |reason: String| Err(NodeFailure::Retryable { reason });
    match status {
        Status::OK => match serde_json::from_str(body) {
            Ok(output) => Ok(output),
            Err(error) => retryable(format!("the plugin's answer is not an output: {error}")),
        },
        Status::REJECTED => match serde_json::from_str(body) {
            Ok(Rejection { code, reason }) => Err(NodeFailure::Rejected { code, reason }),
            Err(_) => retryable("the plugin rejected its input and does not say why".to_owned()),
        },
        Status::UNAVAILABLE => retryable(body.to_owned()),
        Status::PANICKED => retryable(format!("the plugin panicked: {body}")),
        Status(other) => retryable(format!("the plugin answered with the unknown status {other}")),
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> HostError {
    let path = path.to_owned();
    move |source| HostError::Io { path, source }
}

#[async_trait]
impl NodeRunner for PluginHost {
    fn pin(&self, plugin: &str) -> Option<PluginPin> {
        self.plugins.get().plugins.get(plugin).map(|it| it.pin.clone())
    }

    async fn run(&self, call: NodeCall) -> Result<NodeOutput, NodeFailure> {
        let place = self.places.acquire().await;
        let _place = place.map_err(|_| NodeFailure::Cancelled)?;
        let (run, deadline) = (call.run, call.deadline);
        let cancelled = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.entry(run).or_insert_with(|| watch::channel(false).0).subscribe()
        };
        // Running out of time drops the worker, which ends its process.
        let outcome = tokio::time::timeout(deadline, self.work(call, cancelled)).await;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(&run).is_some_and(|it| it.receiver_count() == 0) {
            running.remove(&run);
        }
        outcome.unwrap_or_else(|_| {
            let reason = format!("the plugin took longer than {} s", deadline.as_secs());
            Err(NodeFailure::Retryable { reason })
        })
    }

    async fn cancel(&self, run: Uuid) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = running.get(&run) {
            cancel.send_replace(true);
        }
    }
}
