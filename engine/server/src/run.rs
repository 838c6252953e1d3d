//! The engine from its start to its end.
//!
//! [`Site::read`] finds everything that could be wrong before anything listens. [`run`] then opens
//! the database, starts what works in the background, opens the listeners last and closes them
//! first:
//!
//! 1. site file, plugins, workflows and templates are read and checked;
//! 2. the database is opened, and a start in safe mode holds every part;
//! 3. the watch over database, disk and clock starts, and so does the sealing of the trail;
//! 4. active workflows are settled ([`crate::activation`]), and the start is recorded;
//! 5. the listeners open, the orchestrator works, changes are picked up ([`crate::reload`]);
//! 6. at the stop, listeners close, those connected may finish, and the trail is sealed.

use std::sync::Arc;
use std::time::Duration;

use contracts::{EventSink as _, Live, NodeRunner, TrailStore as _};
use dimse::Reporter;
use domain::event::{EngineStarted, EngineStopped, PluginsUnconfined};
use domain::{Actor, ErrorChain, Event, HoldPart, Subject};
use metrics_exporter_prometheus::PrometheusHandle;
use orchestrator::{
    IntakeService, IntakeStores, LiveConfiguration, Orchestrator, OrchestratorParts, ReviewService,
    Stores,
};
use plugin_host::PluginLimits;
use report::Engine;
use store::cluster::Cluster;
use store::{IntakeStore, PgStore, Sealer, TrailFiles};
use supervisor::supervise;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use upkeep::admission::{SAFE_MODE, closed};
use upkeep::monitor::Monitor;
use upkeep::policy::UpkeepPolicy;

use crate::database::{Database, Opener};
use crate::database_users::DatabaseUser;
use crate::http::{HttpConfig, HttpServices};
use crate::installation::{Installation, InstallationArgs};
use crate::listeners::{AllowedSenders, ListenerAddresses, Listeners};
use crate::output::{Failure, line};
use crate::reload::{Reload, Stamps, callback_addresses};
use crate::site::{Site, own_ae_title};
use crate::site_args::SiteArgs;
use crate::{activation, engine_lock, telemetry};

/// The number of deliveries that are made at once.
const DELIVERIES: usize = 4;

/// How long connected senders may take to finish once the engine is stopped.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the engine until `stopped` turns true. Calls `on_ready` once the listeners are open.
pub(crate) async fn run(
    installation: &InstallationArgs,
    arguments: &SiteArgs,
    stopped: watch::Receiver<bool>,
    on_ready: impl FnOnce(&ListenerAddresses),
) -> Result<(), Failure> {
    let installation = installation.read()?;
    let log = arguments.log.unwrap_or(installation.config.log);
    telemetry::start_log(log, arguments.log_file.as_deref())?;
    let metrics = telemetry::start_metrics()?;
    std::fs::create_dir_all(&installation.data)
        .map_err(|error| Failure::from_error("cannot make the data folder", &error))?;
    let _lock = engine_lock::lock(&installation.data).await?;
    let site = Site::read(&installation, arguments, &[]).await?;
    let Database { store, cluster, user, .. } = installation.open_database(Opener::Engine).await?;
    let engine = EngineParts {
        store: Arc::clone(&store),
        cluster: cluster.clone(),
        installation,
        arguments: arguments.clone(),
        metrics,
    };
    let outcome = engine.work(site, stopped, on_ready).await;
    // However it ended: a database that was started is stopped, unless a command still uses it.
    store.close().await;
    if let Some(cluster) = cluster
        && user.as_ref().is_some_and(DatabaseUser::is_last)
    {
        cluster.stop().await;
    }
    outcome
}

/// What the engine works with, once its database is open.
struct EngineParts {
    store: Arc<PgStore>,
    cluster: Option<Arc<Cluster>>,
    installation: Installation,
    arguments: SiteArgs,
    metrics: PrometheusHandle,
}

/// What changes of the site file replace while the engine runs.
struct LiveParts {
    senders: AllowedSenders,
    upkeep: Arc<Live<UpkeepPolicy>>,
    reporter: Arc<Reporter>,
}

impl EngineParts {
    /// Starts everything, works until `stopped` turns true, and ends everything.
    async fn work(
        self,
        mut site: Site,
        stopped: watch::Receiver<bool>,
        on_ready: impl FnOnce(&ListenerAddresses),
    ) -> Result<(), Failure> {
        let config = Arc::clone(&self.installation.config);
        self.store.listen();
        let intake = self.intake(&site);
        self.hold(&intake).await?;
        let mut tasks = JoinSet::new();
        let sealer = self.start_background(&mut tasks);
        let (closing, until_closed) = watch::channel(false);
        let live = LiveParts {
            senders: AllowedSenders::default(),
            upkeep: Arc::new(Live::new(config.upkeep())),
            reporter: Arc::new(Reporter::new(callback_addresses(&config))),
        };
        let monitor = self.monitor(&site, &intake, &live);
        tasks.spawn(until(monitor.run(), until_closed.clone()));
        let activations = activation::settle(&self.store, &mut site, &self.arguments).await?;
        self.record_start(&site).await;
        let ended = self.store.end_open_associations().await;
        ended.map_err(|error| Failure::database(&error))?;
        live.senders.set(&config, &self.arguments);
        let services = HttpServices {
            intake: Arc::clone(&intake),
            metrics: self.metrics.clone(),
            reviews: ReviewService::new(
                Arc::<PgStore>::clone(&self.store),
                Arc::clone(&site.archive),
            ),
            bodies: config.http.as_ref().map(HttpConfig::bodies).unwrap_or_default(),
        };
        let listeners =
            Listeners { config: &config, arguments: &self.arguments, closed: &until_closed };
        let addresses = listeners.open(&live.senders, services, &mut tasks).await?;
        let stamps = Stamps {
            site_file: self.installation.text.clone(),
            plugins: site.host.stamp(),
            activations,
        };
        let reload = self.start_orchestrator(site, live, &mut tasks);
        tasks.spawn(until(reload.watch(stamps), until_closed));
        show_ready(&addresses);
        on_ready(&addresses);
        wait_until(stopped).await;
        info!("stopping");
        // Without a receiver everything has ended already.
        _ = closing.send(true);
        intake.set_admission(closed("the engine is stopping"));
        tokio::time::sleep(GRACE).await;
        let event = Event::new(Subject::default(), EngineStopped {});
        intake.record_event(event).await;
        tasks.shutdown().await;
        if let Err(error) = sealer.seal().await {
            warn!(error = %ErrorChain(&error), "the last events are sealed at the next start");
        }
        Ok(())
    }

    /// The way in for everything that arrives.
    fn intake(&self, site: &Site) -> Arc<IntakeService> {
        let versions = self.installation.config.dicom.as_ref().map(|it| it.versions);
        let archive = Arc::clone(&site.archive);
        let numbering = self.installation.config.numbering();
        let arrivals = Arc::new(IntakeStore::new(&self.store, numbering));
        let stores = IntakeStores {
            instances: Arc::<IntakeStore>::clone(&arrivals),
            messages: arrivals,
            commitment: Arc::<PgStore>::clone(&self.store),
            deliveries: Arc::<PgStore>::clone(&self.store),
            trail: Arc::<PgStore>::clone(&self.store),
        };
        let decoder = Arc::clone(&site.decoder);
        Arc::new(IntakeService::new(stores, archive, decoder, versions.unwrap_or_default()))
    }

    /// Holds every part at a start in safe mode. What was held before is still held.
    async fn hold(&self, intake: &IntakeService) -> Result<(), Failure> {
        if self.arguments.safe_mode {
            let held = self.store.hold_all(&Actor::engine()).await;
            held.map_err(|error| Failure::database(&error))?;
        }
        let holds = self.store.holds().await.map_err(|error| Failure::database(&error))?;
        for hold in holds {
            warn!(part = hold.part, "held; see `isocenter hold list`");
            if hold.part == HoldPart::Intake.name() {
                intake.set_admission(closed(SAFE_MODE));
            }
        }
        Ok(())
    }

    /// Starts what runs below everything else: the private database and the sealing of the trail.
    fn start_background(&self, tasks: &mut JoinSet<()>) -> Arc<Sealer> {
        if let Some(cluster) = self.cluster.clone() {
            tasks.spawn(supervise("the database", move || {
                let cluster = Arc::clone(&cluster);
                async move { cluster.watch().await }
            }));
        }
        let files = TrailFiles::of(&self.installation.data);
        let sealer = Arc::new(Sealer::new(Arc::clone(&self.store), files));
        let running = Arc::clone(&sealer);
        tasks.spawn(supervise("sealing", move || {
            let sealer = Arc::clone(&running);
            async move { sealer.run().await }
        }));
        sealer
    }

    fn monitor(&self, site: &Site, intake: &Arc<IntakeService>, live: &LiveParts) -> Monitor {
        Monitor {
            store: Arc::clone(&self.store),
            archive: Arc::clone(&site.archive),
            intake: Arc::clone(intake),
            data: self.installation.data.clone(),
            policy: Arc::clone(&live.upkeep),
        }
    }

    async fn record_start(&self, site: &Site) {
        let started = EngineStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plugins: site.host.plugins().into_iter().map(|it| it.pin).collect(),
            workflows: site.workflows.iter().map(|it| it.reference.clone()).collect(),
            model: site.model.about(),
        };
        let mut events = vec![Event::new(Subject::default(), started)];
        if let Some(gap) = site.host.gap() {
            warn!(%gap, "PLUGINS ARE NOT CONFINED and can read every file of the engine");
            let unconfined = PluginsUnconfined { reason: gap.to_string() };
            events.push(Event::new(Subject::default(), unconfined));
        }
        if let Err(error) = self.store.append_events(events).await {
            error!(error = %ErrorChain(&error), "the start cannot be recorded");
        }
    }

    /// Starts the work on studies and deliveries. Returns what picks up changes of the site.
    fn start_orchestrator(self, site: Site, live: LiveParts, tasks: &mut JoinSet<()>) -> Reload {
        let LiveParts { senders, upkeep, reporter } = live;
        let runner: Arc<dyn NodeRunner> = Arc::<plugin_host::PluginHost>::clone(&site.host);
        let configuration = Arc::new(LiveConfiguration::new(site.workflows, site.destinations));
        let orchestrator = Orchestrator::new(OrchestratorParts {
            stores: Stores::of(&self.store),
            archive: site.archive,
            runner,
            decoder: site.decoder,
            reporter: Arc::<Reporter>::clone(&reporter),
            configuration: Arc::clone(&configuration),
            templates: site.templates,
            engine: identity(&self.installation, &self.store.trail_key().to_bytes()),
        });
        let nodes = PluginLimits::default().processes_max;
        tasks.spawn(async move { orchestrator.run(nodes, DELIVERIES).await });
        Reload {
            store: self.store,
            configuration,
            host: site.host,
            model: Arc::new(site.model),
            reporter,
            senders,
            upkeep,
            installation: self.installation,
            arguments: self.arguments,
        }
    }
}

/// How reports name this engine. Its serial number and its UID are those of the installation: derived
/// from the key that was made with it, unless the site has given the machine a number.
fn identity(installation: &Installation, trail_key: &[u8; 32]) -> Engine {
    let key = hex::encode(trail_key);
    let configured = installation.config.device_serial.clone();
    let title = own_ae_title(&installation.config);
    Engine {
        name: title.map_or_else(|_| String::new(), |it| it.to_string()),
        manufacturer: domain::MANUFACTURER.to_owned(),
        model: "Isocenter".to_owned(),
        serial: configured.unwrap_or_else(|| key.chars().take(16).collect()),
        uid: domain::derived_uid(&["device", &key]),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        language: installation.config.language,
    }
}

/// Shows where the listeners are. The demonstration and the tests read this line.
fn show_ready(addresses: &ListenerAddresses) {
    line(format_args!(
        "ready dicom={} mllp={} http={}",
        addresses.dicom.as_deref().unwrap_or("-"),
        addresses.mllp.as_deref().unwrap_or("-"),
        addresses.http.as_deref().unwrap_or("-"),
    ));
    if addresses.dicom.is_none() && addresses.mllp.is_none() {
        warn!(
            "nothing can arrive: name `dicom` or `hl7` in the site file, or start with --dicom or \
             --mllp"
        );
    }
}

async fn wait_until(mut stopped: watch::Receiver<bool>) {
    // Without a sender nobody could stop the engine any more: that is a stop, too.
    _ = stopped.wait_for(|it| *it).await;
}

/// Runs `work` until the listeners close.
async fn until(work: impl Future<Output = ()>, mut closed: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        _ = closed.wait_for(|it| *it) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn work_ends_when_the_listeners_close() {
        let (closing, closed) = watch::channel(false);
        closing.send(true).unwrap();
        until(std::future::pending(), closed).await;
    }

    #[tokio::test]
    async fn an_engine_that_nobody_can_stop_stops() {
        let (stop, stopped) = watch::channel(false);
        drop(stop);
        wait_until(stopped).await;
    }

    fn engine(site: &str, key: u8) -> Engine {
        let installation = Installation {
            config: Arc::new(Config::parse(site).unwrap()),
            data: "/data".into(),
            text: site.to_owned(),
            arguments: InstallationArgs::default(),
        };
        identity(&installation, &[key; 32])
    }

    #[test]
    fn out_19_two_installations_are_two_devices_and_each_stays_the_same() {
        let one = engine("", 1);
        assert_eq!(one, engine("", 1));
        let other = engine("", 2);
        assert_ne!((&one.serial, &one.uid), (&other.serial, &other.uid));
        assert_eq!(one.serial.len(), 16);
        let numbered = engine("device_serial: ISO-7", 1);
        assert_eq!((numbered.serial.as_str(), &numbered.uid), ("ISO-7", &one.uid));
        // The number that a site gives is unique there; the UID is worldwide.
        assert_ne!(engine("device_serial: ISO-7", 2).uid, one.uid);
    }
}
