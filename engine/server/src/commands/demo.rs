//! `isocenter demo`: shows the engine at work between simulated systems of a hospital.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use contracts::StoreError;
use dimse::{Remote, Timers};
use domain::{AeTitle, DeliveryState, RunStatus};
use simulators::phantom::Phantom;
use simulators::{Ehr, Pacs, order_message, send_order};
use store::{PgStore, RunDetail};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::plugin::sign_all;
use super::run::show_run;
use super::send::send_files;
use super::{Execute, audit};
use crate::database::{Database, Opener};
use crate::installation::InstallationArgs;
use crate::listeners::ListenerAddresses;
use crate::output::{Failure, line};
use crate::run;
use crate::site_args::SiteArgs;
use crate::telemetry::LogFormat;

/// Shows the engine at work: sends it an order and a study, and shows what came out.
#[derive(Args)]
pub(crate) struct Demo {
    /// End when it is shown, instead of keeping the engine running.
    #[arg(long)]
    once: bool,
    /// Send the DICOM files of this folder instead of the generated study.
    #[arg(long)]
    with: Option<PathBuf>,
    /// The folder with workflow files.
    #[arg(long)]
    workflows: PathBuf,
    /// The folder with the plugins to show. The site of the demonstration signs all of them.
    #[arg(long)]
    plugins: PathBuf,
    /// The folder with the programs of PostgreSQL.
    #[arg(long)]
    pg_bin: Option<PathBuf>,
}

/// The longest wait for the runs to end.
const RUN_TIME_MAX: Duration = Duration::from_mins(3);

/// The simulated peers of a demonstration, and where everything lies.
struct Scene {
    folder: PathBuf,
    pacs: Pacs,
    ehr: Ehr,
}

impl Execute for Demo {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let scene = Scene::open().await?;
        let config = scene.write_config(&self.workflows, &self.plugins)?;
        let installation =
            InstallationArgs { config: Some(config), data: None, pg_bin: self.pg_bin };
        let site = SiteArgs {
            trust_loopback: true,
            log: Some(LogFormat::Text),
            log_file: Some(scene.folder.join("log")),
            ..SiteArgs::default()
        };
        sign_plugins(&self.plugins, &installation).await?;
        heading("The engine starts, with a PostgreSQL of its own");
        line(format_args!("its log is {}", scene.folder.join("log").display()));
        let (stop, stopped) = watch::channel(false);
        let (report_addresses, addresses) = oneshot::channel();
        let engine_installation = installation.clone();
        let engine = tokio::spawn(async move {
            let on_ready = |addresses: &ListenerAddresses| {
                // Without a receiver the demonstration was stopped.
                _ = report_addresses.send(addresses.clone());
            };
            run::run(&engine_installation, &site, stopped, on_ready).await
        });
        let Ok(addresses) = addresses.await else {
            return ended(engine).await.map(|()| ExitCode::SUCCESS);
        };
        let outcome = scene.play(&addresses, self.with.as_deref(), &installation).await;
        if outcome.is_ok() && !self.once {
            line("\nThe engine keeps running. Stop it with Ctrl-C.");
            // Without signals there is nothing to wait for.
            _ = tokio::signal::ctrl_c().await;
        }
        // Without a receiver the engine has ended already.
        _ = stop.send(true);
        let ended = ended(engine).await;
        outcome.and(ended).map(|()| ExitCode::SUCCESS)
    }
}

/// How the engine ended.
async fn ended(engine: JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    engine.await.unwrap_or_else(|_| Err(Failure::new("the engine ended")))
}

/// Signs every plugin of a folder with the key of this site: the engine loads nothing else.
async fn sign_plugins(folder: &Path, installation: &InstallationArgs) -> Result<(), Failure> {
    heading("The site signs the plugins that were built");
    let plugins = plugin_host::plugins_in(folder).map_err(|error| {
        Failure::from_error(&format!("cannot list the plugins in `{}`", folder.display()), &error)
    })?;
    sign_all(&plugins, installation).await
}

fn heading(text: &str) {
    line(format_args!("\n== {text}"));
}

impl Scene {
    async fn open() -> Result<Self, Failure> {
        let name = format!("isocenter-demo-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).map_err(|error| no_scene(&error))?;
        let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        let title = ae_title("PACS")?;
        let pacs = Pacs::open(&folder.join("pacs"), title, any).await;
        let pacs = pacs.map_err(|error| no_scene(&error))?;
        let ehr = Ehr::open(&folder.join("ehr"), any).await;
        let ehr = ehr.map_err(|error| no_scene(&error))?;
        Ok(Self { folder, pacs, ehr })
    }

    /// The site file of the demonstration, for people to read. Its workflows are copies that wait
    /// less for more of a study.
    fn write_config(&self, workflows: &Path, plugins: &Path) -> Result<PathBuf, Failure> {
        let path = self.folder.join("isocenter.yaml");
        let copies = self.folder.join("workflows");
        simulators::copy_with_short_wait(workflows, &copies)
            .map_err(|error| Failure::from_error("cannot copy the workflows", &error))?;
        let text = format!(
            "data: {}\nworkflows: {}\nplugins: {}\n\
             dicom: {{ listen: \"127.0.0.1:0\", peers: [] }}\n\
             hl7: {{ listen: \"127.0.0.1:0\", networks: [127.0.0.0/8] }}\n\
             http: {{ listen: \"127.0.0.1:0\" }}\n\
             identity: {{ default_issuer: HOSP }}\n\
             destinations:\n  pacs: {{ dicom: {{ address: \"{}\", ae_title: PACS }} }}\n  \
             ehr: {{ mllp: {{ address: \"{}\", application: EHR, facility: HOSP }}, allow_unverified: true }}\n",
            self.folder.join("data").display(),
            copies.display(),
            plugins.display(),
            self.pacs.address(),
            self.ehr.address(),
        );
        std::fs::write(&path, text)
            .map_err(|error| Failure::from_error("cannot write the site file", &error))?;
        Ok(path)
    }

    async fn play(
        &self,
        addresses: &ListenerAddresses,
        with: Option<&Path>,
        installation: &InstallationArgs,
    ) -> Result<(), Failure> {
        let phantom = Phantom::default();
        if with.is_none() {
            heading("The RIS sends an order (HL7 ORM^O01 over MLLP)");
            let address = addresses.mllp.clone().unwrap_or_default();
            let answer = send_order(&address, &order_message(&phantom, "DEMO-1")).await;
            let answer = answer.map_err(|error| Failure::from_error("the order", &error))?;
            line(format_args!("accession {}: the engine answered {answer}", phantom.accession));
        }
        heading("The modality sends a study (DICOM C-STORE)");
        let sent = self.send_study(addresses, with, &phantom).await?;
        line(format_args!("{sent} instances were acknowledged"));
        heading("The run");
        let database = installation.read()?.open_database(Opener::Command).await?;
        let details = self.watch_runs(&database).await;
        database.close().await;
        let details = details?;
        for detail in &details {
            show_run(detail, "");
        }
        self.show_received(&phantom, with.is_none());
        self.verify(installation).await?;
        let study = details.iter().find_map(|it| it.run.study.as_deref());
        self.show_next_steps(study.unwrap_or(&phantom.accession), installation);
        Ok(())
    }

    async fn send_study(
        &self,
        addresses: &ListenerAddresses,
        with: Option<&Path>,
        phantom: &Phantom,
    ) -> Result<usize, Failure> {
        let remote = Remote {
            address: addresses.dicom.clone().unwrap_or_default(),
            called: ae_title("ISOCENTER")?,
            calling: ae_title("CT1")?,
            timers: Timers::default(),
        };
        if let Some(folder) = with {
            return send_files(&remote, &[folder.to_owned()]).await;
        }
        let files = phantom.files();
        let contents: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let sent = remote.store(&contents).await;
        sent.map_err(|error| Failure::from_error("the study was not accepted", &error))?;
        Ok(files.len())
    }

    /// Waits until every run and delivery has ended, and shows each change.
    async fn watch_runs(&self, database: &Database) -> Result<Vec<RunDetail>, Failure> {
        let start = Instant::now();
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let details = run_details(&database.store).await;
            let details = details.map_err(|error| Failure::database(&error))?;
            for StateLine { name, state } in details.iter().flat_map(states) {
                if shown.insert(name.clone(), state.clone()).as_ref() != Some(&state) {
                    let seconds = start.elapsed().as_secs_f64();
                    line(format_args!("{seconds:6.1} s  {name}: {state}"));
                }
            }
            if !details.is_empty() && details.iter().all(has_ended) {
                return Ok(details);
            }
            if start.elapsed() > RUN_TIME_MAX {
                return Err(Failure::new("the run did not end").with_hint("isocenter runs"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn show_received(&self, phantom: &Phantom, is_phantom: bool) {
        heading("What the PACS received");
        for object in self.pacs.received() {
            let kind = match object.sop_class.as_str() {
                "1.2.840.10008.5.1.4.1.1.66.4" => "Segmentation",
                domain::sop_class::COMPREHENSIVE_3D_SR => "Comprehensive 3D SR",
                other => other,
            };
            line(format_args!("{kind} {}\n  {}", object.sop_instance, object.path.display()));
        }
        heading("What the EHR received");
        for message in self.ehr.received() {
            line(message.replace('\r', "\n").trim_end());
        }
        if is_phantom {
            let known = phantom.bone_millilitres();
            line(format_args!("\nThe bones of the phantom have {known:.1} mL by construction."));
        }
    }

    async fn verify(&self, installation: &InstallationArgs) -> Result<(), Failure> {
        heading("The trail is exported and verified without the database");
        let file = self.folder.join("trail.jsonl");
        audit::export(installation, &file).await?;
        let key = self.folder.join("data/keys/trail.pub");
        audit::verify(&file, &key.display().to_string(), None)
    }

    fn show_next_steps(&self, study: &str, installation: &InstallationArgs) {
        let config = installation.config.as_deref().unwrap_or(Path::new("")).display();
        heading("Where to look next");
        line(format_args!("site file and data    {}", self.folder.display()));
        line(format_args!("why did that happen   isocenter why {study} --config {config}"));
        line(format_args!("every event           isocenter audit show --config {config}"));
        line("the path of a study   engine/README.md\nworkflows             workflows/README.md");
        line("(isocenter is target/debug/isocenter; the commands work while the engine runs)");
    }
}

fn no_scene(error: &std::io::Error) -> Failure {
    Failure::from_error("cannot set the scene", error)
}

fn ae_title(text: &str) -> Result<AeTitle, Failure> {
    text.parse().map_err(|error| Failure::from_error("an AE title", &error))
}

/// Every run with everything in it.
async fn run_details(store: &PgStore) -> Result<Vec<RunDetail>, StoreError> {
    let mut details = Vec::new();
    for run in store.runs(50).await? {
        details.extend(store.run(run.id).await?);
    }
    Ok(details)
}

/// Whether a run has ended, and every delivery of it has been tried.
fn has_ended(detail: &RunDetail) -> bool {
    let open = [DeliveryState::Queued.name(), DeliveryState::Sending.name()];
    detail.run.status != RunStatus::Running.name()
        && !detail.deliveries.iter().any(|it| open.contains(&it.state.as_str()))
}

/// A run, a node or a delivery, and the state it is in.
struct StateLine {
    name: String,
    state: String,
}

fn states(detail: &RunDetail) -> Vec<StateLine> {
    let run = &detail.run;
    let mut states =
        vec![StateLine { name: format!("run of {}", run.workflow), state: run.status.clone() }];
    states.extend(
        detail
            .nodes
            .iter()
            .map(|it| StateLine { name: format!("  node {}", it.node), state: it.state.clone() }),
    );
    states.extend(detail.deliveries.iter().map(|it| StateLine {
        name: format!("  delivery to {}", it.destination),
        state: it.state.clone(),
    }));
    states
}
