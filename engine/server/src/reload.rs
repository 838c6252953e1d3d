//! Picks up what changes while the engine runs, without a restart.
//!
//! * A changed **site file** replaces peers, networks, destinations, retention, disk marks and the
//!   model. Listeners, folders and the database need a restart. A file that is not sound changes
//!   nothing.
//! * Replaced **plugins** are loaded; runs in progress continue with the version they started with.
//! * **Workflows** that were activated or deactivated apply to the next study.
//!
//! Every change, and every change that was refused, is an event in the trail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contracts::{Live, TrailStore as _};
use dimse::Reporter;
use domain::event::{
    EventBody, ModelExchanged, ModelRefused, PluginsReloaded, SiteFileChange, SiteFileRefused,
    SiteFileReloaded, WorkflowsReloaded,
};
use domain::{AeTitle, ErrorChain, Event, Outcome, Subject};
use orchestrator::{Destinations, LiveConfiguration};
use plugin_host::PluginHost;
use store::PgStore;
use tracing::{error, info};
use upkeep::policy::UpkeepPolicy;

use crate::activation;
use crate::active_model::{ActiveModel, Exchange, ModelConfig};
use crate::config::Config;
use crate::installation::Installation;
use crate::listeners::AllowedSenders;
use crate::output::Failure;
use crate::site::{add_stand_ins, destinations};
use crate::site_args::SiteArgs;

/// How often site file, plugins and activations are compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// The parts of a running engine that can be replaced.
pub(crate) struct Reload {
    pub(crate) store: Arc<PgStore>,
    pub(crate) configuration: Arc<LiveConfiguration>,
    pub(crate) host: Arc<PluginHost>,
    pub(crate) model: Arc<ActiveModel>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) senders: AllowedSenders,
    pub(crate) upkeep: Arc<Live<UpkeepPolicy>>,
    pub(crate) installation: Installation,
    pub(crate) arguments: SiteArgs,
}

/// What the engine runs with, to notice when it changes.
pub(crate) struct Stamps {
    /// The text of the site file.
    pub(crate) site_file: String,
    /// Names and times of the plugin files.
    pub(crate) plugins: String,
    /// The number of changes of activations.
    pub(crate) activations: i64,
}

/// Notices that a file changed, once it has stopped changing.
struct FileWatch {
    /// The text that was picked up last.
    current: String,
    /// The text at the last look.
    latest: String,
}

impl FileWatch {
    fn new(text: String) -> Self {
        Self { latest: text.clone(), current: text }
    }

    /// Whether `text` is a change to pick up. A file that is being written may be empty or cut, so
    /// it has to be the same at two looks in a row.
    fn has_changed(&mut self, text: String) -> bool {
        let is_settled = text == self.latest && !text.trim().is_empty();
        let has_changed = is_settled && text != self.current;
        if has_changed {
            self.current.clone_from(&text);
        }
        self.latest = text;
        has_changed
    }
}

/// Where peers listen that have to be called back for storage commitment.
pub(crate) fn callback_addresses(config: &Config) -> BTreeMap<AeTitle, String> {
    let peers = config.dicom.iter().flat_map(|it| &it.peers);
    peers.filter_map(|it| Some((it.ae_title.clone(), it.address.clone()?))).collect()
}

impl Reload {
    /// Looks for changes until the future is dropped.
    pub(crate) async fn watch(self, stamps: Stamps) {
        let Stamps { site_file, mut plugins, mut activations } = stamps;
        let mut site_file = FileWatch::new(site_file);
        loop {
            tokio::time::sleep(INTERVAL).await;
            if site_file.has_changed(self.installation.text_now()) {
                self.reload_site_file().await;
            }
            let plugins_now = self.host.stamp_now();
            let has_new_plugins = plugins_now != plugins;
            if has_new_plugins {
                plugins = plugins_now;
                self.reload_plugins().await;
            }
            // Without the database there is no change that could be known.
            let activations_now = self.store.activation_stamp().await.unwrap_or(activations);
            if activations_now != activations || has_new_plugins {
                activations = activations_now;
                self.reload_workflows().await;
            }
        }
    }

    async fn reload_site_file(&self) {
        match self.read_site_file() {
            Ok((config, destinations)) => {
                self.senders.set(&config, &self.arguments);
                self.upkeep.set(config.upkeep());
                self.reporter.replace(callback_addresses(&config));
                self.configuration.destinations.set(destinations);
                self.exchange_model(config.model.clone());
                info!(
                    "the site file was read again: peers, networks, destinations, retention, disk, \
                     model"
                );
                let change = SiteFileChange { reason: String::new() };
                self.record(SiteFileReloaded(change), Outcome::Success).await;
            }
            Err(failure) => {
                let reason = failure.text().to_owned();
                error!(reason, "the site file is not sound; all stays as it was");
                let change = SiteFileChange { reason };
                self.record(SiteFileRefused(change), Outcome::MinorFailure).await;
            }
        }
    }

    /// The site file as it is now, with its destinations and those of the active workflows.
    fn read_site_file(&self) -> Result<(Arc<Config>, Destinations), Failure> {
        let config = self.installation.read_again()?.config;
        let workflows = self.configuration.workflows.get();
        let texts: Vec<&str> = workflows.iter().map(|it| it.text.as_str()).collect();
        let destinations = destinations(&config, &self.arguments, &texts)?;
        Ok((config, destinations))
    }

    /// Exchanges the model in the background: loading one may take minutes.
    fn exchange_model(&self, config: Option<ModelConfig>) {
        let model = Arc::clone(&self.model);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let exchange = model.replace(config.as_ref()).await;
            match exchange {
                None => {}
                Some(Exchange::Done(change)) => {
                    record(&store, ModelExchanged(change), Outcome::Success).await;
                }
                Some(Exchange::Refused(change)) => {
                    error!(reason = change.reason, "the model stays as it was");
                    record(&store, ModelRefused(change), Outcome::MinorFailure).await;
                }
            }
        });
    }

    async fn reload_plugins(&self) {
        match self.host.rescan().await {
            Ok(()) => {
                let pins = self.host.plugins().into_iter().map(|it| it.pin).collect();
                let reloaded = PluginsReloaded { plugins: Some(pins), reason: None };
                self.record(reloaded, Outcome::Success).await;
            }
            Err(error) => {
                error!(error = %ErrorChain(&error), "the plugins stay as they were");
                let reason = Some(ErrorChain(&error).to_string());
                let refused = PluginsReloaded { plugins: None, reason };
                self.record(refused, Outcome::MinorFailure).await;
            }
        }
    }

    async fn reload_workflows(&self) {
        let active = match self.store.active_workflows().await {
            Ok(activations) => activations.active,
            Err(error) => {
                error!(error = %ErrorChain(&error), "the versions of workflows cannot be read");
                return;
            }
        };
        let mut destinations = self.configuration.destinations.get().as_ref().clone();
        let texts: Vec<&str> = active.iter().map(|it| it.1.as_str()).collect();
        add_stand_ins(&mut destinations, &self.arguments, &texts);
        let known = self.configuration.workflows.get();
        let read = activation::read(active, &self.host, &destinations, &known).await;
        let references: Vec<_> = read.iter().map(|it| it.reference.clone()).collect();
        self.configuration.destinations.set(destinations);
        self.configuration.workflows.set(read);
        info!(count = references.len(), "active workflows were read again");
        let reloaded = WorkflowsReloaded { workflows: references };
        self.record(reloaded, Outcome::Success).await;
    }

    async fn record(&self, body: impl EventBody, outcome: Outcome) {
        record(&self.store, body, outcome).await;
    }
}

async fn record(store: &PgStore, body: impl EventBody, outcome: Outcome) {
    let event = Event::new(Subject::default(), body).ended(outcome);
    if let Err(error) = store.append_events(vec![event]).await {
        error!(error = %ErrorChain(&error), "a change cannot be recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_picked_up_once_it_has_stopped_changing() {
        let mut watch = FileWatch::new("a".to_owned());
        assert!(!watch.has_changed("a".to_owned()));
        assert!(!watch.has_changed("ab".to_owned()), "it may still be being written");
        assert!(!watch.has_changed("abc".to_owned()));
        assert!(watch.has_changed("abc".to_owned()));
        assert!(!watch.has_changed("abc".to_owned()), "once");
    }

    #[test]
    fn a_file_that_is_gone_or_empty_changes_nothing() {
        let mut watch = FileWatch::new("a".to_owned());
        for _ in 0..3 {
            assert!(!watch.has_changed(" \n".to_owned()));
        }
        assert!(!watch.has_changed("a".to_owned()));
        assert!(!watch.has_changed("a".to_owned()), "it is what it was");
    }

    #[test]
    fn only_peers_with_an_address_are_called_back() {
        let config = Config::parse(
            "dicom: { listen: 127.0.0.1:104, peers: [
                { ae_title: CT1, networks: [10.1.0.0/16] },
                { ae_title: PACS, networks: [10.1.0.0/16], address: \"10.1.0.9:104\" }] }",
        );
        let addresses = callback_addresses(&config.unwrap());
        assert_eq!(addresses.len(), 1);
        assert_eq!(addresses.get(&"PACS".parse().unwrap()).unwrap(), "10.1.0.9:104");
    }
}
