//! Takes in what changes while the engine runs: workflows that were activated, plugins that were
//! replaced, and what the site file says of peers, destinations and the model. Runs that go on keep what they
//! began with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contracts::{Live, Store as _};
use dimse::Reporter;
use domain::{Action, AeTitle, ErrorChain, Event, Outcome, Subject};
use orchestrator::Orchestrator;
use plugin_host::PluginHost;
use serde_json::json;
use store::PgStore;
use tracing::{error, info};

use crate::activation;
use crate::args::{Place, ServeFlags};
use crate::config::{Config, Keeping, ModelConfig};
use crate::doors::Guests;
use crate::model_at_work::{Exchange, ModelAtWork};
use crate::site::{add_stand_ins, destinations};

/// How often we look.
const LOOK: Duration = Duration::from_secs(1);

/// What can be changed.
pub(crate) struct Reload {
    pub(crate) store: Arc<PgStore>,
    pub(crate) orchestrator: Arc<Orchestrator>,
    pub(crate) host: Arc<PluginHost>,
    pub(crate) model: Arc<ModelAtWork>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) guests: Guests,
    pub(crate) keeping: Arc<Live<Keeping>>,
    pub(crate) place: Place,
    pub(crate) flags: ServeFlags,
}

/// What the engine has taken in so far.
pub(crate) struct Seen {
    pub(crate) file: String,
    pub(crate) plugins: String,
    pub(crate) activations: i64,
}

/// Where peers listen that may have to be called back.
pub(crate) fn addresses(config: &Config) -> BTreeMap<AeTitle, String> {
    let peers = config.dicom.iter().flat_map(|it| &it.peers);
    peers.filter_map(|it| Some((it.ae_title.clone(), it.address.clone()?))).collect()
}

impl Reload {
    /// Looks again and again.
    pub(crate) async fn watch(self, seen: Seen) {
        let Seen { mut file, mut plugins, mut activations } = seen;
        let mut before = file.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            // One that is being written is not whole yet: it is taken in once it stays the same.
            let now = self.file();
            let is_whole = now == before && !now.trim().is_empty();
            if now != file && is_whole {
                file.clone_from(&now);
                self.take_site_file().await;
            }
            before = now;
            let now = self.host.stamp_now();
            let has_plugins = now != plugins;
            if has_plugins {
                plugins = now;
                self.take_plugins().await;
            }
            // Without the database nothing has changed that we could know of.
            let now = self.store.activation_stamp().await.unwrap_or(activations);
            if now != activations || has_plugins {
                activations = now;
                self.take_workflows().await;
            }
        }
    }

    fn file(&self) -> String {
        let path = self.place.config.as_ref();
        path.and_then(|it| std::fs::read_to_string(it).ok()).unwrap_or_default()
    }

    async fn take_site_file(&self) {
        let outcome = Config::read(&self.place).and_then(|config| {
            let workflows = self.orchestrator.workflows.get();
            let texts: Vec<&str> = workflows.iter().map(|it| it.text.as_str()).collect();
            let destinations = destinations(&config, &self.flags, &texts)?;
            Ok((config, destinations))
        });
        let (kind, reason, outcome) = match outcome {
            Ok((config, destinations)) => {
                self.guests.set(&config, &self.flags);
                self.keeping.set(config.keeping());
                self.reporter.replace(addresses(&config));
                self.orchestrator.destinations.set(destinations);
                self.take_model(config.model);
                info!(
                    "the site file was read again: peers, networks, destinations, retention, disk, \
                     model"
                );
                ("site_file_reloaded", String::new(), Outcome::Success)
            }
            Err(failure) => {
                error!(reason = failure.text(), "the site file is of no use; all stays as it was");
                ("site_file_refused", failure.text().to_owned(), Outcome::MinorFailure)
            }
        };
        self.tell(kind, json!({"reason": reason}), outcome).await;
    }

    /// Exchanges the model beside everything else: loading one takes its time.
    fn take_model(&self, config: Option<ModelConfig>) {
        let (model, store) = (Arc::clone(&self.model), Arc::clone(&self.store));
        tokio::spawn(async move {
            let Some(Exchange { detail, outcome }) = model.take(config.as_ref()).await else {
                return;
            };
            let (kind, outcome) = match outcome {
                Ok(()) => ("model_exchanged", Outcome::Success),
                Err(reason) => {
                    error!(reason, "the model stays as it was");
                    ("model_refused", Outcome::MinorFailure)
                }
            };
            tell(&store, kind, detail, outcome).await;
        });
    }

    async fn take_plugins(&self) {
        let (detail, outcome) = match self.host.rescan().await {
            Ok(()) => {
                let pins: Vec<_> = self.host.plugins().into_iter().map(|it| it.pin).collect();
                (json!({"plugins": pins}), Outcome::Success)
            }
            Err(error) => {
                error!(error = %ErrorChain(&error), "the plugins stay as they were");
                (json!({"reason": ErrorChain(&error).to_string()}), Outcome::MinorFailure)
            }
        };
        self.tell("plugins_reloaded", detail, outcome).await;
    }

    async fn take_workflows(&self) {
        let active = match self.store.active_workflows().await {
            Ok((active, _)) => active,
            Err(error) => {
                error!(error = %ErrorChain(&error), "the versions of workflows cannot be read");
                return;
            }
        };
        let mut destinations = self.orchestrator.destinations.get().as_ref().clone();
        let texts: Vec<&str> = active.iter().map(|it| it.1.as_str()).collect();
        add_stand_ins(&mut destinations, &self.flags, &texts);
        let known = self.orchestrator.workflows.get();
        let read = activation::read(active, &self.host, &destinations, &known).await;
        let names: Vec<_> = read.iter().map(|it| json!(it.reference)).collect();
        self.orchestrator.destinations.set(destinations);
        self.orchestrator.workflows.set(read);
        info!(count = names.len(), "workflows at work");
        self.tell("workflows_reloaded", json!({"workflows": names}), Outcome::Success).await;
    }

    async fn tell(&self, kind: &str, detail: serde_json::Value, outcome: Outcome) {
        tell(&self.store, kind, detail, outcome).await;
    }
}

async fn tell(store: &PgStore, kind: &str, detail: serde_json::Value, outcome: Outcome) {
    let event = Event::engine(kind, Action::U, Subject::default(), detail).ended(outcome);
    if let Err(error) = store.append(vec![event]).await {
        error!(error = %ErrorChain(&error), "a change cannot be put on record");
    }
}
