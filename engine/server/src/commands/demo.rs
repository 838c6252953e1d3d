//! `cargo demo`: the engine at work, with simulated peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dimse::{Remote, Timers};
use simulators::phantom::Phantom;
use simulators::{Ehr, Pacs, order_message, send_order};
use store::RunDetail;
use tokio::sync::{oneshot, watch};

use crate::args::{LogFormat, Place, PluginCommand, ServeFlags};
use crate::commands::ask::show_run;
use crate::commands::audit;
use crate::commands::plugin::plugin;
use crate::commands::send::send_files;
use crate::doors::Doors;
use crate::open::Opened;
use crate::output::{Failure, line};
use crate::run;

/// Longest wait for the runs to end.
const RUN_TIME_MAX: Duration = Duration::from_mins(3);

/// The simulated peers of a demonstration, and where everything lies.
struct Scene {
    folder: PathBuf,
    pacs: Pacs,
    ehr: Ehr,
}

pub(crate) async fn demo(
    once: bool,
    with: Option<PathBuf>,
    workflows: PathBuf,
    plugins: PathBuf,
    pg_bin: Option<PathBuf>,
) -> Result<(), Failure> {
    let scene = Scene::open().await?;
    let config = scene.write_config(&workflows, &plugins)?;
    let place = Place { config: Some(config), data: None, pg_bin };
    let flags = ServeFlags {
        trust_loopback: true,
        log: Some(LogFormat::Text),
        log_file: Some(scene.folder.join("log")),
        ..ServeFlags::default()
    };
    sign_plugins(&plugins, &place).await?;
    heading("The engine starts, with a PostgreSQL of its own");
    line(format_args!("its log is {}", scene.folder.join("log").display()));
    let (stop, stopped) = watch::channel(false);
    let (tell, told) = oneshot::channel();
    let (engine_place, engine_flags) = (place.clone(), flags);
    let engine = tokio::spawn(async move {
        let opened = |doors: &Doors| {
            // Nobody waits for the doors any more if the demonstration was stopped.
            _ = tell.send(doors.clone());
        };
        run::run(&engine_place, &engine_flags, stopped, opened).await
    });
    let Ok(doors) = told.await else {
        return engine.await.unwrap_or_else(|_| Err(Failure::new("the engine ended")));
    };
    let outcome = scene.play(&doors, with.as_deref(), &place).await;
    if outcome.is_ok() && !once {
        line("\nThe engine goes on. Stop it with Ctrl-C.");
        // Without signals there is nothing to wait for.
        _ = tokio::signal::ctrl_c().await;
    }
    // Whoever could not be told has ended.
    _ = stop.send(true);
    let ended = engine.await.unwrap_or_else(|_| Err(Failure::new("the engine ended")));
    outcome.and(ended)
}

/// Signs every plugin of a folder with the key of this site: the engine loads nothing else.
async fn sign_plugins(folder: &Path, place: &Place) -> Result<(), Failure> {
    heading("The site signs the plugins that were built");
    let plugins = plugin_host::plugins_in(folder).map_err(|error| {
        Failure::from_error(&format!("cannot list the plugins in `{}`", folder.display()), &error)
    })?;
    plugin(PluginCommand::Sign { plugins, place: place.clone() }).await
}

fn heading(text: &str) {
    line(format_args!("\n== {text}"));
}

impl Scene {
    async fn open() -> Result<Self, Failure> {
        let name = format!("isocenter-demo-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let cannot = |error: std::io::Error| Failure::from_error("cannot set the scene", &error);
        std::fs::create_dir_all(&folder).map_err(cannot)?;
        let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        let title = "PACS".parse().map_err(|error| Failure::from_error("the PACS", &error))?;
        let pacs = Pacs::open(&folder.join("pacs"), title, any).await.map_err(cannot)?;
        let ehr = Ehr::open(&folder.join("ehr"), any).await.map_err(cannot)?;
        Ok(Self { folder, pacs, ehr })
    }

    /// The site file of the demonstration, for people to read.
    fn write_config(&self, workflows: &Path, plugins: &Path) -> Result<PathBuf, Failure> {
        let path = self.folder.join("isocenter.yaml");
        let text = format!(
            "data: {}\nworkflows: {}\nplugins: {}\n\
             dicom: {{ listen: \"127.0.0.1:0\", peers: [] }}\n\
             hl7: {{ listen: \"127.0.0.1:0\", networks: [127.0.0.0/8] }}\n\
             http: {{ listen: \"127.0.0.1:0\" }}\n\
             destinations:\n  pacs: {{ dicom: {{ address: \"{}\", ae_title: PACS }} }}\n  \
             ehr: {{ mllp: {{ address: \"{}\", application: EHR, facility: HOSP }}, allow_unverified: true }}\n",
            self.folder.join("data").display(),
            workflows.display(),
            plugins.display(),
            self.pacs.address(),
            self.ehr.address(),
        );
        std::fs::write(&path, text)
            .map_err(|error| Failure::from_error("cannot write the site file", &error))?;
        Ok(path)
    }

    async fn play(&self, doors: &Doors, with: Option<&Path>, place: &Place) -> Result<(), Failure> {
        let phantom = Phantom::default();
        if with.is_none() {
            heading("The RIS sends an order (HL7 ORM^O01 over MLLP)");
            let address = doors.mllp.clone().unwrap_or_default();
            let answer = send_order(&address, &order_message(&phantom, "DEMO-1")).await;
            let answer = answer.map_err(|error| Failure::from_error("the order", &error))?;
            line(format_args!("accession {}: the engine answered {answer}", phantom.accession));
        }
        heading("The modality sends a study (DICOM C-STORE)");
        let sent = self.send_study(doors, with, &phantom).await?;
        line(format_args!("{sent} instances were acknowledged"));
        heading("The run");
        let opened = Opened::open(place).await?;
        let details = self.watch_runs(&opened).await;
        opened.close().await;
        let details = details?;
        for detail in &details {
            show_run(detail, "");
        }
        self.show_received(&phantom, with.is_none());
        self.verify(place).await?;
        let study = details.iter().find_map(|it| it.run.study.as_deref());
        self.show_ways_on(study.unwrap_or(&phantom.accession), place);
        Ok(())
    }

    async fn send_study(
        &self,
        doors: &Doors,
        with: Option<&Path>,
        phantom: &Phantom,
    ) -> Result<usize, Failure> {
        let title =
            |text: &str| text.parse().map_err(|error| Failure::from_error("an AE title", &error));
        let remote = Remote {
            address: doors.dicom.clone().unwrap_or_default(),
            called: title("ISOCENTER")?,
            calling: title("CT1")?,
            timers: Timers::default(),
        };
        if let Some(folder) = with {
            return send_files(&remote, &[folder.to_owned()]).await;
        }
        let files = phantom.files();
        let contents: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let sent = remote.store(&contents).await;
        sent.map_err(|error| Failure::from_error("the study was not taken", &error))?;
        Ok(files.len())
    }

    /// Waits until every run and delivery has ended, and shows each change.
    async fn watch_runs(&self, opened: &Opened) -> Result<Vec<RunDetail>, Failure> {
        let failed = |error: contracts::StoreError| Failure::from_error("the runs", &error);
        let begin = Instant::now();
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let mut details = Vec::new();
            for run in opened.store.runs(50).await.map_err(failed)? {
                details.extend(opened.store.run(run.id).await.map_err(failed)?);
            }
            for (name, state) in details.iter().flat_map(states) {
                if shown.insert(name.clone(), state.clone()).as_ref() != Some(&state) {
                    let seconds = begin.elapsed().as_secs_f64();
                    line(format_args!("{seconds:6.1} s  {name}: {state}"));
                }
            }
            let is_over = |it: &RunDetail| {
                let is_open = |state: &str| matches!(state, "queued" | "sending");
                it.run.status != "running" && !it.deliveries.iter().any(|it| is_open(&it.state))
            };
            if !details.is_empty() && details.iter().all(is_over) {
                return Ok(details);
            }
            if begin.elapsed() > RUN_TIME_MAX {
                return Err(Failure::new("the run did not end; see: isocenter runs"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn show_received(&self, phantom: &Phantom, is_phantom: bool) {
        heading("What the PACS received");
        for it in self.pacs.received() {
            let kind = match it.sop_class.as_str() {
                "1.2.840.10008.5.1.4.1.1.66.4" => "Segmentation",
                report::sr::SOP_CLASS => "Comprehensive 3D SR",
                other => other,
            };
            line(format_args!("{kind} {}\n  {}", it.sop_instance, it.path.display()));
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

    async fn verify(&self, place: &Place) -> Result<(), Failure> {
        heading("The trail is exported and verified without the database");
        let file = self.folder.join("trail.jsonl");
        let export = crate::args::AuditCommand::Export { file: file.clone(), place: place.clone() };
        audit::audit(export).await?;
        let key = self.folder.join("data/keys/trail.pub");
        audit::verify(&file, &key.display().to_string())
    }

    fn show_ways_on(&self, study: &str, place: &Place) {
        let config = place.config.as_deref().unwrap_or(Path::new("")).display();
        heading("Where to look next");
        line(format_args!("site file and data    {}", self.folder.display()));
        line(format_args!("why did that happen   isocenter why {study} --config {config}"));
        line(format_args!("every event           isocenter audit show --config {config}"));
        line("the way of a study    engine/README.md\nworkflows             workflows/README.md");
        line("(isocenter is target/debug/isocenter; while the engine runs, the commands ask it)");
    }
}

fn states(detail: &RunDetail) -> Vec<(String, String)> {
    let workflow = &detail.run.workflow;
    let mut states = vec![(format!("run of {workflow}"), detail.run.status.clone())];
    for it in &detail.nodes {
        states.push((format!("  node {}", it.node), it.state.clone()));
    }
    for it in &detail.deliveries {
        states.push((format!("  delivery to {}", it.destination), it.state.clone()));
    }
    states
}
