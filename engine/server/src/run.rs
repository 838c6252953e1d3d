//! The engine from its start to its end.
//!
//! [`Site::read`] finds everything that could be wrong before anything listens; [`serve`] opens the
//! doors last and closes them first.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contracts::{Intake, Live, NodeRunner, Refusal, RefusalReason, Store};
use dimse::Reporter;
use domain::{Action, Actor, ErrorChain, Event, Subject};
use orchestrator::{InHand, IntakeService, Orchestrator, ReviewDesk, Taking, keep_going};
use plugin_host::PluginLimits;
use report::Engine;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use store::Sealer;
use store::cluster::Cluster;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::args::{Place, ServeFlags};
use crate::config::{Config, Keeping};
use crate::doors::{Doors, Guests, open_doors};
use crate::open::Opened;
use crate::output::{Failure, line};
use crate::reload::{Reload, Seen, addresses};
use crate::site::{Site, own_ae_title};
use crate::surroundings::{HELD, Surroundings};
use crate::{activation, telemetry};

/// Deliveries that are made at once.
const DELIVERIES: usize = 4;

/// How long those inside may take to finish when the engine is told to stop.
const GRACE: Duration = Duration::from_secs(2);

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
    let site = Site::read(place, flags, &[]).await?;
    let Opened { store, cluster, .. } = Opened::open_in(&site.config, place, &data).await?;
    let open =
        Open { store: Arc::clone(&store), cluster: cluster.clone(), data, place: place.clone() };
    let outcome = work(site, open, flags, metrics, stopped, opened).await;
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
    cluster: Option<Arc<Cluster>>,
    data: PathBuf,
    place: Place,
}

/// Opens the doors, and works until `stopped` says so.
async fn work(
    mut site: Site,
    Open { store, cluster, data, place }: Open,
    flags: &ServeFlags,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    stopped: watch::Receiver<bool>,
    opened: impl FnOnce(&Doors),
) -> Result<(), Failure> {
    store.listen();
    let intake = intake(&store, &site);
    hold(&store, &intake, flags.safe_mode).await?;
    let mut tasks = JoinSet::new();
    if let Some(cluster) = cluster {
        watch_over(cluster, &mut tasks);
    }
    let sealer = Arc::new(Sealer::new(Arc::clone(&store), data.join("trail/checkpoints.jsonl")));
    go_on_sealing(Arc::clone(&sealer), &mut tasks);
    let (closing, closed) = watch::channel(false);
    let keeping = Arc::new(Live::new(site.config.keeping()));
    let surroundings = Surroundings {
        store: Arc::clone(&store),
        archive: Arc::clone(&site.archive),
        intake: Arc::clone(&intake),
        data,
        keeping: Arc::clone(&keeping),
    };
    tasks.spawn(until_closed(surroundings.watch(), closed.clone()));
    let activations = activation::settled(&store, &mut site, flags).await?;
    put_on_record(&store, "engine_started", &site).await;
    let lost = store.end_association(None).await;
    lost.map_err(|error| Failure::from_error("the database does not answer", &error))?;
    let desk = ReviewDesk {
        store: Arc::<store::PgStore>::clone(&store),
        archive: Arc::clone(&site.archive),
    };
    let guests = Guests::default();
    guests.set(&site.config, flags);
    let doors =
        open_doors(&site.config, flags, &guests, &intake, &closed, (metrics, desk), &mut tasks)
            .await?;
    let seen = Seen { file: site.config.text.clone(), plugins: site.host.stamp(), activations };
    let reload = spawn_orchestrator(site, (guests, keeping), (&store, &place, flags), &mut tasks);
    tasks.spawn(until_closed(reload.watch(seen), closed.clone()));
    announce(&doors);
    opened(&doors);
    wait_until(stopped).await;
    info!("stopping");
    // Whoever watches has ended already if nobody does.
    _ = closing.send(true);
    intake.set_taking(nothing("the engine is stopping"));
    tokio::time::sleep(GRACE).await;
    let last = Event::engine("engine_stopped", Action::E, Subject::default(), json!({}));
    intake.note_event(last).await;
    tasks.shutdown().await;
    if let Err(error) = sealer.seal().await {
        warn!(error = %ErrorChain(&error), "the last events are sealed at the next start");
    }
    Ok(())
}

/// Starts the private database again whenever it ends.
fn watch_over(cluster: Arc<Cluster>, tasks: &mut JoinSet<()>) {
    let watch = move || {
        let cluster = Arc::clone(&cluster);
        async move { cluster.watch().await }
    };
    tasks.spawn(keep_going("the database", watch));
}

/// Seals what is added to the trail.
fn go_on_sealing(sealer: Arc<Sealer>, tasks: &mut JoinSet<()>) {
    let seal = move || {
        let sealer = Arc::clone(&sealer);
        async move { sealer.run().await }
    };
    tasks.spawn(keep_going("sealing", seal));
}

/// Nothing is taken in, for this reason.
fn nothing(why: &str) -> Taking {
    Taking::Nothing(Refusal::new(RefusalReason::OutOfResources, why))
}

/// Holds everything, if this is to be a start in safe mode; and what was held before is held still.
async fn hold(
    store: &store::PgStore,
    intake: &IntakeService,
    is_safe_mode: bool,
) -> Result<(), Failure> {
    let no_answer = |error| Failure::from_error("the database does not answer", &error);
    if is_safe_mode {
        store.hold_all(&Actor::engine()).await.map_err(no_answer)?;
    }
    for held in store.held().await.map_err(no_answer)? {
        warn!(part = held.part, "held; see `isocenter hold list`");
        if held.part == "intake" {
            intake.set_taking(nothing(HELD));
        }
    }
    Ok(())
}

/// Says where the doors are.
fn announce(doors: &Doors) {
    line(format_args!(
        "ready dicom={} mllp={} http={}",
        doors.dicom.as_deref().unwrap_or("-"),
        doors.mllp.as_deref().unwrap_or("-"),
        doors.http.as_deref().unwrap_or("-"),
    ));
    if doors.dicom.is_none() && doors.mllp.is_none() {
        warn!(
            "nothing can come in: name `dicom` or `hl7` in the site file, or say --dicom, --mllp"
        );
    }
}

/// The way in for everything that arrives.
fn intake(store: &Arc<store::PgStore>, site: &Site) -> Arc<IntakeService> {
    let store: Arc<dyn Store> = Arc::<store::PgStore>::clone(store);
    let versions = site.config.dicom.as_ref().map(|it| it.versions);
    Arc::new(IntakeService::new(store, Arc::clone(&site.archive), versions.unwrap_or_default()))
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
    let plugins: Vec<_> = site.host.plugins().into_iter().map(|it| json!(it.pin)).collect();
    let workflows: Vec<_> = site.workflows.iter().map(|it| json!(it.reference)).collect();
    let detail = json!({
        "version": env!("CARGO_PKG_VERSION"), "plugins": plugins, "workflows": workflows,
        "model": site.model.about(),
    });
    let event = Event::engine(kind, Action::E, Subject::default(), detail);
    if let Err(error) = store.append(vec![event]).await {
        error!(error = %ErrorChain(&error), "the start cannot be put on record");
    }
}

/// Has everything happen that happens to studies. Gives what takes in changes of the site.
fn spawn_orchestrator(
    site: Site,
    (guests, keeping): (Guests, Arc<Live<Keeping>>),
    (store, place, flags): (&Arc<store::PgStore>, &Place, &ServeFlags),
    tasks: &mut JoinSet<()>,
) -> Reload {
    let reporter = Arc::new(Reporter::new(addresses(&site.config)));
    let runner: Arc<dyn NodeRunner> = Arc::<plugin_host::PluginHost>::clone(&site.host);
    let name = own_ae_title(&site.config).map_or_else(|_| String::new(), |it| it.to_string());
    let orchestrator = Arc::new(Orchestrator {
        store: Arc::<store::PgStore>::clone(store),
        archive: site.archive,
        runner,
        workflows: Live::new(site.workflows),
        destinations: Live::new(site.destinations),
        reporter: Arc::<Reporter>::clone(&reporter),
        templates: site.templates,
        engine: Engine {
            name,
            manufacturer: domain::MANUFACTURER.to_owned(),
            model: "Isocenter".to_owned(),
            serial: "1".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        nodes_in_hand: InHand::default(),
        deliveries_in_hand: InHand::default(),
        versions: std::sync::Mutex::default(),
    });
    let nodes = PluginLimits::default().processes_max;
    let running = Arc::clone(&orchestrator);
    tasks.spawn(async move { running.run(nodes, DELIVERIES).await });
    Reload {
        store: Arc::clone(store),
        orchestrator,
        host: site.host,
        model: Arc::new(site.model),
        reporter,
        guests,
        keeping,
        place: place.clone(),
        flags: flags.clone(),
    }
}

/// Does something until the doors close.
async fn until_closed(work: impl Future<Output = ()>, mut closed: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        _ = closed.wait_for(|it| *it) => {}
    }
}
