//! The engine from its start to its end.
//!
//! [`Site::read`] finds everything that could be wrong before anything listens; [`serve`] opens the
//! doors last and closes them first.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use archive::{DiskArchive, FolderDestination};
use contracts::{Archive, Destination, Intake, NodeRunner, Refusal, RefusalReason, Store};
use dimse::{DicomDestination, Network, Peer, Remote, Reporter, Timers};
use domain::{Action, AeTitle, ErrorChain, Event, Subject};
use encoding::hl7_charset::Hl7Charset;
use hl7::MllpDestination;
use orchestrator::{ActiveWorkflow, Destinations, IntakeService, Orchestrator, SiteDestination};
use plugin_host::{PluginHost, PluginLimits};
use report::{Engine, MessageHeader, Templates};
use rustix::fs::{FlockOperation, flock, statvfs};
use serde_json::json;
use store::Sealer;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::args::{Place, ServeFlags};
use crate::config::{Config, DestinationConfig, DicomConfig, Hl7Config, OnIdentityChange};
use crate::open::Opened;
use crate::output::{Failure, line};
use crate::workflows::{WorkflowFile, files, read_all, rendered};
use crate::{http, telemetry};

/// Deliveries that are made at once.
const DELIVERIES: usize = 4;

/// The disk is full when less than this is free.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// How long those inside may take to finish when the engine is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// A site whose files have all been read and checked.
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) host: Arc<PluginHost>,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) destinations: Destinations,
    pub(crate) workflows: Vec<ActiveWorkflow>,
    pub(crate) templates: Templates,
}

impl Site {
    /// Reads everything, and says everything that is wrong.
    pub(crate) async fn read(place: &Place, flags: &ServeFlags) -> Result<Self, Failure> {
        let config = Config::read(place)?;
        let data = config.data(place);
        let archive = DiskArchive::open(&data.join("archive"))
            .map_err(|error| Failure::from_error("cannot open the archive", &error))?;
        let archive: Arc<dyn Archive> = Arc::new(archive);
        let engine = std::env::current_exe()
            .map_err(|error| Failure::from_error("cannot find this program", &error))?;
        let folder = config.plugins(flags, &data);
        let (store, limits) = (data.join("plugins"), PluginLimits::default());
        let host = PluginHost::open(engine, &folder, store, Arc::clone(&archive), limits)
            .await
            .map_err(|error| Failure::from_error("cannot load the plugins", &error))?;
        let folder = flags.workflows.clone().or_else(|| config.workflows.clone());
        let files = folder.as_deref().map(files).transpose()?.unwrap_or_default();
        let destinations = destinations(&config, flags, &files)?;
        let workflows = read_all(&files, &host, &destinations)
            .await
            .map_err(|problems| Failure::new(format!("\n{}", rendered(&problems))))?;
        let templates = Templates::open(config.templates.as_deref())
            .map_err(|error| Failure::from_error("a template is of no use", &error))?;
        let host = Arc::new(host);
        Ok(Self { config, host, archive, destinations, workflows, templates })
    }
}

/// The destinations of the site file, and the folder for all others that workflows name.
fn destinations(
    config: &Config,
    flags: &ServeFlags,
    files: &[WorkflowFile],
) -> Result<Destinations, Failure> {
    let calling = own_ae_title(config)?;
    let mut destinations = Destinations::new();
    for (name, it) in &config.destinations {
        destinations.insert(name.clone(), destination(name, it, &calling)?);
    }
    if let Some(folder) = &flags.folder {
        for name in files.iter().flat_map(|it| workflow::destinations(&it.text)) {
            let destination: Arc<dyn Destination> =
                Arc::new(FolderDestination::new(folder.clone()));
            let header = header(&name, "", "", "UNICODE UTF-8");
            let site = SiteDestination {
                destination,
                header,
                allow_unverified: true,
                resends_on_identity_change: true,
            };
            destinations.entry(name).or_insert(site);
        }
    }
    Ok(destinations)
}

fn own_ae_title(config: &Config) -> Result<AeTitle, Failure> {
    match &config.dicom {
        Some(dicom) => Ok(dicom.ae_title.clone()),
        None => "ISOCENTER".parse().map_err(|error| Failure::from_error("our AE title", &error)),
    }
}

fn destination(
    name: &str,
    config: &DestinationConfig,
    calling: &AeTitle,
) -> Result<SiteDestination, Failure> {
    let allow_unverified = config.allow_unverified;
    let plain = || header(name, "", "", "UNICODE UTF-8");
    let (destination, header): (Arc<dyn Destination>, _) = match config {
        DestinationConfig { dicom: Some(remote), .. } => {
            let commitment = remote.commitment;
            let remote = Remote {
                address: remote.address.clone(),
                called: remote.ae_title.clone(),
                calling: calling.clone(),
                timers: Timers::default(),
            };
            (Arc::new(DicomDestination::new(remote, commitment)), plain())
        }
        DestinationConfig { mllp: Some(ehr), .. } => {
            let charset = Hl7Charset::parse(&ehr.character_set, Hl7Charset::Utf8)
                .map_err(|error| Failure::from_error(&format!("destination `{name}`"), &error))?;
            let header = header(name, &ehr.application, &ehr.facility, &ehr.character_set);
            (Arc::new(MllpDestination::new(ehr.address.clone(), charset)), header)
        }
        DestinationConfig { folder: Some(folder), .. } => {
            (Arc::new(FolderDestination::new(folder.clone())), plain())
        }
        _ => return Err(Failure::new(format!("destination `{name}` goes nowhere"))),
    };
    let resends_on_identity_change = config.on_identity_change == OnIdentityChange::Resend;
    Ok(SiteDestination { destination, header, allow_unverified, resends_on_identity_change })
}

fn header(name: &str, application: &str, facility: &str, character_set: &str) -> MessageHeader {
    MessageHeader {
        destination: name.to_owned(),
        sending_application: "ISOCENTER".to_owned(),
        sending_facility: "AI".to_owned(),
        receiving_application: application.to_owned(),
        receiving_facility: facility.to_owned(),
        character_set: character_set.to_owned(),
    }
}

/// Runs the engine until it is told to stop.
pub(crate) async fn serve(place: &Place, flags: &ServeFlags) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(false);
    let told = tokio::spawn(async move { wait_for_signal(stop).await });
    let outcome = run(place, flags, stopped, |_| {}).await;
    told.abort();
    outcome
}

async fn wait_for_signal(stop: watch::Sender<bool>) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        error!("signals cannot be heard: the engine can only be killed");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Whoever listens has ended already if nobody does.
    _ = stop.send(true);
    std::future::pending::<()>().await;
}

/// Where the doors are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors {
    pub(crate) dicom: Option<String>,
    pub(crate) mllp: Option<String>,
    pub(crate) http: Option<String>,
}

/// Runs the engine until `stopped` says so. Tells where its doors are once they are open.
pub(crate) async fn run(
    place: &Place,
    flags: &ServeFlags,
    stopped: watch::Receiver<bool>,
    opened: impl FnOnce(&Doors),
) -> Result<(), Failure> {
    let config = Config::read(place)?;
    telemetry::start_log(flags.log.unwrap_or(config.log), flags.log_file.as_deref())?;
    let metrics = telemetry::start_metrics()?;
    let data = config.data(place);
    std::fs::create_dir_all(&data)
        .map_err(|error| Failure::from_error("cannot make the data folder", &error))?;
    let _lock = lock(&data)?;
    let site = Site::read(place, flags).await?;
    let Opened { store, cluster } = Opened::open_in(&site.config, place, &data).await?;
    let place = Open { store: Arc::clone(&store), cluster: cluster.clone(), data };
    let outcome = work(site, place, flags, metrics, stopped, opened).await;
    // However it ended: a database that was started is stopped.
    store.close().await;
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    outcome
}

/// What the engine works with, once its database is open.
struct Open {
    store: Arc<store::PgStore>,
    cluster: Option<Arc<store::cluster::Cluster>>,
    data: PathBuf,
}

/// Opens the doors, and works until `stopped` says so.
async fn work(
    site: Site,
    Open { store, cluster, data }: Open,
    flags: &ServeFlags,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    stopped: watch::Receiver<bool>,
    opened: impl FnOnce(&Doors),
) -> Result<(), Failure> {
    store.listen();
    let intake = {
        let (store, archive): (Arc<dyn Store>, _) =
            (Arc::<store::PgStore>::clone(&store), Arc::clone(&site.archive));
        let versions = site.config.dicom.as_ref().map(|it| it.versions);
        Arc::new(IntakeService::new(store, archive, versions.unwrap_or_default()))
    };
    let mut tasks = JoinSet::new();
    if let Some(cluster) = &cluster {
        let cluster = Arc::clone(cluster);
        tasks.spawn(async move { cluster.watch().await });
    }
    let sealer = Arc::new(Sealer::new(Arc::clone(&store), data.join("trail/checkpoints.jsonl")));
    let seals = Arc::clone(&sealer);
    tasks.spawn(async move { seals.run().await });
    let (closing, closed) = watch::channel(false);
    let watched = watch_surroundings(Arc::clone(&store), Arc::clone(&intake), data.clone());
    tasks.spawn(until_closed(watched, closed.clone()));
    put_on_record(&store, "engine_started", &site).await;
    let doors = open_doors(&site.config, flags, &intake, &closed, metrics, &mut tasks).await?;
    spawn_orchestrator(site, &store, &mut tasks);
    line(format_args!(
        "ready dicom={} mllp={} http={}",
        doors.dicom.as_deref().unwrap_or("-"),
        doors.mllp.as_deref().unwrap_or("-"),
        doors.http.as_deref().unwrap_or("-"),
    ));
    opened(&doors);
    wait_until(stopped).await;
    info!("stopping");
    // Whoever watches has ended already if nobody does.
    _ = closing.send(true);
    intake.set_closed(Some(Refusal::new(RefusalReason::OutOfResources, "the engine is stopping")));
    tokio::time::sleep(GRACE).await;
    let last = Event::engine("engine_stopped", Action::E, Subject::default(), json!({}));
    intake.note_event(last).await;
    tasks.shutdown().await;
    if let Err(error) = sealer.seal().await {
        warn!(error = %ErrorChain(&error), "the last events are sealed at the next start");
    }
    Ok(())
}

async fn wait_until(mut stopped: watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone: that is a stop, too.
    _ = stopped.wait_for(|it| *it).await;
}

/// Keeps a second engine away from the same data.
fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| Failure::from_error("cannot open the lock file", &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::new(format!("another engine works with the data in `{}`", data.display()))
    })?;
    Ok(file)
}

async fn put_on_record(store: &Arc<store::PgStore>, kind: &str, site: &Site) {
    let plugins: Vec<_> = site.host.plugins().map(|it| json!(it.pin)).collect();
    let workflows: Vec<_> = site.workflows.iter().map(|it| json!(it.reference)).collect();
    let detail = json!({
        "version": env!("CARGO_PKG_VERSION"), "plugins": plugins, "workflows": workflows,
    });
    let event = Event::engine(kind, Action::E, Subject::default(), detail);
    if let Err(error) = store.append(vec![event]).await {
        error!(error = %ErrorChain(&error), "the start cannot be put on record");
    }
}

fn spawn_orchestrator(site: Site, store: &Arc<store::PgStore>, tasks: &mut JoinSet<()>) {
    let runner: Arc<dyn NodeRunner> = site.host;
    let name = own_ae_title(&site.config).map_or_else(|_| String::new(), |it| it.to_string());
    let reporter = Reporter::new(addresses(&site.config));
    let orchestrator = Arc::new(Orchestrator {
        store: Arc::<store::PgStore>::clone(store),
        archive: site.archive,
        runner,
        workflows: site.workflows,
        destinations: site.destinations,
        reporter: Arc::new(reporter),
        templates: site.templates,
        engine: Engine {
            name,
            manufacturer: "Isocenter".to_owned(),
            model: "Isocenter".to_owned(),
            serial: "1".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        versions: std::sync::Mutex::default(),
    });
    let nodes = PluginLimits::default().processes_max;
    tasks.spawn(async move { orchestrator.run(nodes, DELIVERIES).await });
}

/// Where peers listen that may have to be called back.
fn addresses(config: &Config) -> BTreeMap<AeTitle, String> {
    let peers = config.dicom.iter().flat_map(|it| &it.peers);
    peers.filter_map(|it| Some((it.ae_title.clone(), it.address.clone()?))).collect()
}

/// Does something until the doors close.
async fn until_closed(work: impl Future<Output = ()>, mut closed: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        _ = closed.wait_for(|it| *it) => {}
    }
}

/// Closes the intake while the disk is full or the database away, and opens it again (ACC-05).
async fn watch_surroundings(store: Arc<store::PgStore>, intake: Arc<IntakeService>, data: PathBuf) {
    loop {
        let refuse = |why: &str| Some(Refusal::new(RefusalReason::OutOfResources, why));
        let ping = tokio::time::timeout(Duration::from_secs(5), store.ping());
        let why = match ping.await {
            Ok(Ok(())) => {
                let free = statvfs(&data).map(|it| it.f_bavail * it.f_frsize);
                free.ok().filter(|it| *it < FREE_BYTES_MIN).and_then(|_| refuse("the disk is full"))
            }
            _ => refuse("the database does not answer"),
        };
        match (&why, intake.is_open()) {
            (Some(why), Ok(())) => error!(reason = why.comment, "the intake is closed"),
            (None, Err(_)) => info!("the intake is open again"),
            _ => {}
        }
        intake.set_closed(why);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn open_doors(
    config: &Config,
    flags: &ServeFlags,
    intake: &Arc<IntakeService>,
    closed: &watch::Receiver<bool>,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    tasks: &mut JoinSet<()>,
) -> Result<Doors, Failure> {
    let mut doors = Doors::default();
    let shared: Arc<dyn Intake> = Arc::<IntakeService>::clone(intake);
    let cannot = |what: &str, error: &std::io::Error| {
        Failure::from_error(&format!("cannot listen for {what}"), error)
    };
    if let Some(config) = dicom_config(config.dicom.as_ref(), flags, own_ae_title(config)?) {
        let listener = dimse::Listener::bind(config, Arc::clone(&shared)).await;
        let listener = listener.map_err(|error| cannot("DICOM", &error))?;
        doors.dicom = listener.address().ok().map(|it| it.to_string());
        tasks.spawn(listener.listen(closed.clone()));
    }
    if let Some(config) = hl7_config(config.hl7.as_ref(), flags)? {
        let listener = hl7::Listener::bind(config, Arc::clone(&shared)).await;
        let listener = listener.map_err(|error| cannot("HL7", &error))?;
        doors.mllp = listener.address().ok().map(|it| it.to_string());
        tasks.spawn(listener.listen(closed.clone()));
    }
    if let Some(address) = flags.http.or_else(|| config.http.as_ref().map(|it| it.listen)) {
        let listener = TcpListener::bind(address).await.map_err(|error| cannot("HTTP", &error))?;
        doors.http = listener.local_addr().ok().map(|it| it.to_string());
        let intake = Arc::clone(intake);
        tasks.spawn(async move {
            if let Err(error) = http::serve(listener, intake, metrics).await {
                error!(%error, "health and metrics are no longer answered");
            }
        });
    }
    Ok(doors)
}

fn dicom_config(
    site: Option<&DicomConfig>,
    flags: &ServeFlags,
    ae_title: AeTitle,
) -> Option<dimse::Config> {
    let listen = flags.dicom.or_else(|| site.map(|it| it.listen))?;
    let known = site.map(|it| it.peers.clone()).unwrap_or_default();
    let mut peers: Vec<Peer> = known
        .into_iter()
        .map(|it| Peer { ae_title: Some(it.ae_title), networks: it.networks })
        .collect();
    if flags.trust_loopback {
        peers.push(Peer { ae_title: None, networks: Network::loopback() });
    }
    Some(dimse::Config {
        listen,
        ae_title,
        peers,
        associations_max: 512,
        associations_per_peer_max: site.map_or(64, |it| it.associations_per_peer),
        pdu_bytes_max: site.map_or(131_072, |it| it.pdu_bytes_max),
        timers: Timers::default(),
    })
}

fn hl7_config(
    site: Option<&Hl7Config>,
    flags: &ServeFlags,
) -> Result<Option<hl7::Config>, Failure> {
    let Some(listen) = flags.mllp.or_else(|| site.map(|it| it.listen)) else { return Ok(None) };
    let mut networks = site.map(|it| it.networks.clone()).unwrap_or_default();
    if flags.trust_loopback {
        networks.extend(Network::loopback());
    }
    let mut rules = hl7::Rules::default();
    if let Some(site) = site {
        rules.charset = Hl7Charset::parse(&site.character_set, Hl7Charset::Utf8)
            .map_err(|error| Failure::from_error("hl7.character_set", &error))?;
        rules.processing_ids.clone_from(&site.processing_ids);
        rules.types.clone_from(&site.types);
        rules.applications.clone_from(&site.applications);
    }
    let senders = hl7::Sender(Arc::new(move |it| networks.iter().any(|n| n.contains(it))));
    Ok(Some(hl7::Config {
        listen,
        rules: Arc::new(rules),
        senders,
        connections_per_peer_max: site.map_or(64, |it| it.connections_per_peer),
        connections_max: 512,
        timers: hl7::connection::Timers::default(),
    }))
}
