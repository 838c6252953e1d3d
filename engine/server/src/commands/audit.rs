//! `isocenter audit`: the trail, shown, exported and verified.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use contracts::TrailStore as _;
use domain::event::TrailExported;
use domain::{Event, Subject};
use ed25519_dalek::VerifyingKey;
use serde_json::Value;
use store::{EventFilter, EventLine, PgStore, Sealer, TrailCount, TrailFiles, trail_file};

use super::Execute;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, line, list};
use crate::public_key::public_key;

/// The longest wait for the newest events to be sealed.
const SEALING_TIME_MAX: Duration = Duration::from_mins(1);

/// Shows, exports or verifies the trail.
#[derive(Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Lists the newest events. Reading them is an event too.
    Show {
        /// Only events of a patient, by any identifier.
        #[arg(long)]
        patient: Option<String>,
        /// Only events of a study.
        #[arg(long)]
        study: Option<String>,
        /// Only events caused by an account, an AE title, an application, or `isocenter`.
        #[arg(long)]
        user: Option<String>,
        /// Only events of a result: by its run, or by the UID or control id it was sent under.
        #[arg(long)]
        result: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Writes everything that is sealed to a file.
    Export {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Verifies an export. Needs neither data folder nor database.
    Verify {
        /// The file.
        file: PathBuf,
        /// The file with the public key, or the key in hex.
        #[arg(long)]
        key: String,
        /// A copy of `keys/trail.count` from an earlier time, that the export has to go on from.
        #[arg(long)]
        count: Option<PathBuf>,
    },
}

const HEADINGS: [&str; 5] = ["seq", "at", "event", "by", "detail"];

impl Execute for Audit {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            AuditCommand::Show { patient, study, user, result, list } => {
                show(&EventFilter { patient, study, user, result }, list).await
            }
            AuditCommand::Export { file, installation } => {
                export(&installation, &file).await?;
                Ok(ExitCode::SUCCESS)
            }
            AuditCommand::Verify { file, key, count } => {
                verify(&file, &key, count.as_deref())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

async fn show(filter: &EventFilter, arguments: ListArgs) -> Result<ExitCode, Failure> {
    let ListArgs { installation, json, limit } = arguments;
    let events =
        installation.query(async |store| store.events(filter, limit, operator()).await).await?;
    list(json, &events, &HEADINGS, cells)
}

fn cells(event: &EventLine) -> Vec<String> {
    let actor = event.body.pointer("/actor/id").and_then(Value::as_str);
    let detail = event.body.get("detail").map(ToString::to_string);
    vec![
        event.seq.map(|it| it.to_string()).unwrap_or_default(),
        event.at.clone(),
        event.kind.clone(),
        actor.unwrap_or_default().to_owned(),
        detail.unwrap_or_default(),
    ]
}

/// Seals what is not sealed yet, and writes all that is sealed to `file`.
pub(super) async fn export(arguments: &InstallationArgs, file: &Path) -> Result<(), Failure> {
    let installation = arguments.read()?;
    let files = TrailFiles::of(&installation.data);
    let export = installation.with_store(async |store| write(store, files, file).await);
    let export = export.await??;
    line(format_args!("{} events were written to {}", export.events, file.display()));
    if export.is_whole {
        return Ok(());
    }
    let text = "the newest events are not sealed yet, because a transaction of the database is \
                open: they are not in the file";
    Err(Failure::new(text).with_hint("export again later"))
}

/// What an export holds.
struct Export {
    events: u64,
    /// Whether every event up to the export is in it.
    is_whole: bool,
}

async fn write(store: &Arc<PgStore>, files: TrailFiles, file: &Path) -> Result<Export, Failure> {
    let event = Event::new(Subject::default(), TrailExported {});
    let recorded = store.append_events(vec![event.by(operator())]).await;
    recorded.map_err(|error| Failure::database(&error))?;
    let sealer = Sealer::new(Arc::clone(store), files);
    let sealed = sealer.seal_all(SEALING_TIME_MAX).await;
    let is_whole = sealed.map_err(|error| Failure::database(&error))?;
    let unwritable =
        |error| Failure::from_error(&format!("cannot write `{}`", file.display()), &error);
    let mut out = BufWriter::new(File::create(file).map_err(unwritable)?);
    let events = sealer
        .write_all(&mut out)
        .await
        .map_err(|error| Failure::from_error("the trail cannot be exported", &error))?;
    out.flush().map_err(unwritable)?;
    Ok(Export { events, is_whole })
}

/// Verifies an export with a public key, and with a count if there is one. Needs nothing else.
pub(super) fn verify(path: &Path, key: &str, count: Option<&Path>) -> Result<(), Failure> {
    let key = public_key(key)?;
    let count = count.map(|it| read_count(it, &key)).transpose()?;
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let intact = trail_file::verify(BufReader::new(file), &key, count.as_ref())
        .map_err(|broken| Failure::from_error("NOT INTACT", &broken))?;
    line(format_args!(
        "intact: {} events in {} signed batches, exported {}",
        intact.events, intact.batches, intact.exported_at
    ));
    if intact.losses > 0 {
        line(format_args!(
            "{} times a person accepted that a part is lost: trail_loss_accepted",
            intact.losses
        ));
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::from_error(&format!("cannot read `{}`", path.display()), error)
}

fn read_count(path: &Path, key: &VerifyingKey) -> Result<TrailCount, Failure> {
    let text = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let count: Option<TrailCount> = serde_json::from_slice(&text).ok();
    count.filter(|it| it.is_signed(key)).ok_or_else(|| {
        Failure::new(format!("`{}` is not a count that was signed with this key", path.display()))
    })
}
