//! What can be said on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use inference::Compute;
use uuid::Uuid;

mod configure;
mod model;
mod token;

pub(crate) use configure::{DestinationCommand, PluginCommand, PluginLanguage, WorkflowCommand};
pub(crate) use model::{BenchFlags, ImportFlags, ModelCommand, RunFlags, ServeModelFlags};
pub(crate) use token::TokenCommand;

/// A workflow engine for hospital images and documents.
#[derive(Parser)]
#[command(name = "isocenter", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the engine's data are.
#[derive(Args, Clone, Default)]
pub(crate) struct Place {
    /// The site file.
    #[arg(long, global = true)]
    pub(crate) config: Option<PathBuf>,
    /// The folder for everything the engine keeps.
    #[arg(long, global = true)]
    pub(crate) data: Option<PathBuf>,
    /// The folder with PostgreSQL's programs.
    #[arg(long, global = true)]
    pub(crate) pg_bin: Option<PathBuf>,
}

/// What `serve` can be told without a site file.
#[derive(Args, Clone, Default)]
pub(crate) struct ServeFlags {
    /// The folder with workflow files.
    #[arg(long)]
    pub(crate) workflows: Option<PathBuf>,
    /// The folder with plugins. Default: the folder of this program, then `plugins` of the data.
    #[arg(long)]
    pub(crate) plugins: Option<PathBuf>,
    /// Where to listen for DICOM.
    #[arg(long)]
    pub(crate) dicom: Option<SocketAddr>,
    /// Where to listen for HL7.
    #[arg(long)]
    pub(crate) mllp: Option<SocketAddr>,
    /// Where to answer `/healthz` and `/metrics`.
    #[arg(long)]
    pub(crate) http: Option<SocketAddr>,
    /// A folder that stands for every destination the site file does not name.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Take nothing in, work on nothing and send nothing until each is released: see `isocenter hold`.
    #[arg(long)]
    pub(crate) safe_mode: bool,
    /// Take from every peer on this machine, whatever it calls itself.
    #[arg(long)]
    pub(crate) trust_loopback: bool,
    /// Load plugins that nobody has signed. For trials.
    #[arg(long)]
    pub(crate) allow_unsigned: bool,
    /// How to write the log.
    #[arg(long, value_enum)]
    pub(crate) log: Option<LogFormat>,
    /// Where to write the log, instead of standard error.
    #[arg(long)]
    pub(crate) log_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ExportFlags {
    /// Its Study Instance UID.
    pub(crate) study: String,
    /// The folder.
    #[arg(long)]
    pub(crate) to: PathBuf,
    /// Byte by byte as they came, also if their patient is known by another identifier by now.
    #[arg(long)]
    pub(crate) as_received: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// How to write the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Runs the engine until it is told to stop.
    Serve {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// Shows the engine at work: sends it an order and a study, and what came out.
    Demo {
        /// End when it is shown, instead of going on.
        #[arg(long)]
        once: bool,
        /// Send the DICOM files of this folder instead of the generated study.
        #[arg(long)]
        with: Option<PathBuf>,
        /// Where workflows lie.
        #[arg(long)]
        workflows: PathBuf,
        /// The folder with the plugins to show. The site of the demonstration signs all of them.
        #[arg(long)]
        plugins: PathBuf,
        /// The folder with PostgreSQL's programs.
        #[arg(long)]
        pg_bin: Option<PathBuf>,
    },
    /// Checks the site file, the workflows and the templates, and shows every problem.
    Check {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// Runs the tests inside of the workflows.
    Test {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// Puts workflows to work, shows which are, and tries which would take a file.
    Workflow {
        #[command(subcommand)]
        command: WorkflowCommand,
    },
    /// Shows how destinations fare, pauses and tries them.
    Destination {
        #[command(subcommand)]
        command: DestinationCommand,
    },
    /// Takes in, shows and tries models.
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// Shows, makes, checks and signs plugins.
    Plugin {
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Shows the newest studies.
    Studies(Listing),
    /// Shows the newest messages.
    Messages(Listing),
    /// Shows the newest runs.
    Runs(Listing),
    /// Shows or changes one run.
    Run {
        #[command(subcommand)]
        command: RunCommand,
    },
    /// Explains what happened to an accession number, study, patient, instance or message, and
    /// what did not.
    Why {
        /// What to explain.
        what: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Writes the images of a study into a folder, under the name their patient has now.
    Export(ExportFlags),
    /// Shows or repeats deliveries.
    Delivery {
        #[command(subcommand)]
        command: DeliveryCommand,
    },
    /// Shows or decides what waits for a person.
    Task {
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// Takes back that two patients were taken for one. Two people have to agree.
    Patient {
        #[command(subcommand)]
        command: PatientCommand,
    },
    /// Makes, shows and revokes what lets people decide about results.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Shows what people made of drafts: in reviews, and what came back from workstations and the RIS.
    Corrections(Listing),
    /// Sends something to somebody, to try a connection.
    Send {
        #[command(subcommand)]
        command: SendCommand,
    },
    /// Shows, exports or verifies the trail.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Removes images, messages and results whose time is over, as the engine does by itself.
    Retention {
        /// Remove nothing; show what would be.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Shows and releases what is held after a start in safe mode.
    Hold {
        #[command(subcommand)]
        command: HoldCommand,
    },
    /// Writes a file for whoever is asked for help, with nothing of any patient in it.
    Support {
        /// Where to.
        to: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Looks for what is not as it should be.
    Doctor(DoctorFlags),
    /// Writes what the engine conforms to: the DICOM Conformance Statement, the HL7 profile.
    Conformance {
        /// Which.
        #[arg(value_enum)]
        of: Standard,
    },
    /// Brings a database up to date.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Is the process of the model. Started by the engine.
    #[command(hide = true)]
    ModelHost {
        /// The folder with its files.
        checkpoint: PathBuf,
        /// Whether to compute in eight bits.
        #[arg(long)]
        eight_bit: bool,
        /// Where to compute.
        #[arg(long, default_value = "auto")]
        device: Compute,
    },
    /// Is the process of a plugin. Started by the engine.
    #[command(hide = true)]
    PluginHost {
        /// The library.
        library: PathBuf,
        /// The folder it may read images from.
        #[arg(long)]
        archive: PathBuf,
        /// Most memory, in bytes.
        #[arg(long)]
        memory: u64,
    },
}

/// A standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Standard {
    /// DICOM, PS3.2.
    Dicom,
    /// HL7 v2.
    Hl7,
}

/// How to show a list.
#[derive(Args, Clone)]
pub(crate) struct Listing {
    #[command(flatten)]
    pub(crate) place: Place,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// How many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: i64,
}

#[derive(Subcommand)]
pub(crate) enum HoldCommand {
    /// Shows what is held.
    List(Listing),
    /// Releases a part: it goes on where it stood.
    Release {
        /// Which.
        #[arg(value_parser = store::PARTS)]
        part: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
pub(crate) struct DoctorFlags {
    /// Put right what can be put right without losing anything, take the rest out of use and note it.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Read the bytes of all images.
    #[arg(long)]
    pub(crate) read_all: bool,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Subcommand)]
pub(crate) enum RunCommand {
    /// Shows a run with its nodes, deliveries and findings.
    Show {
        /// Which.
        run: Uuid,
        #[command(flatten)]
        listing: Listing,
    },
    /// Takes a run back.
    Cancel {
        /// Which.
        run: Uuid,
        #[command(flatten)]
        place: Place,
    },
    /// Tries again what failed in a run.
    Retry {
        /// Which.
        run: Uuid,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub(crate) enum DeliveryCommand {
    /// Shows the newest deliveries.
    List {
        /// Only those that failed or were held back.
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Sends deliveries again, under the same names.
    Resend {
        /// Which.
        deliveries: Vec<Uuid>,
        /// All that failed.
        #[arg(long, conflicts_with = "deliveries")]
        failed: bool,
        /// With `--failed`: only those to this destination.
        #[arg(long, requires = "failed")]
        to: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub(crate) enum TaskCommand {
    /// Shows what waits, oldest first.
    List(Listing),
    /// Puts on record what was decided.
    Decide {
        /// Which.
        task: Uuid,
        /// What was decided.
        decision: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub(crate) enum PatientCommand {
    /// Asks for a merge to be taken back. Somebody else has to approve.
    Unmerge {
        /// The identifier that went, MRG-1.
        source: String,
        /// The identifier that stayed, PID-3.
        survivor: String,
        #[command(flatten)]
        place: Place,
    },
    /// Shows what waits for a second person.
    Requests(Listing),
    /// Takes a merge back that somebody else asked to be.
    Approve {
        /// Which request.
        request: Uuid,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub(crate) enum SendCommand {
    /// Asks whether a DICOM peer is there (C-ECHO).
    Echo {
        #[command(flatten)]
        remote: RemoteFlags,
    },
    /// Sends DICOM files (C-STORE).
    Dicom {
        #[command(flatten)]
        remote: RemoteFlags,
        /// Files or folders.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Sends HL7 messages and shows the answers.
    Hl7 {
        /// Host and port.
        address: String,
        /// Files with one message each.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// A DICOM peer.
#[derive(Args, Clone)]
pub(crate) struct RemoteFlags {
    /// Host and port.
    pub(crate) address: String,
    /// What the peer is called.
    #[arg(long, default_value = "ANY-SCP")]
    pub(crate) called: domain::AeTitle,
    /// What we are called.
    #[arg(long, default_value = "ISOCENTER")]
    pub(crate) calling: domain::AeTitle,
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Shows the newest events. Being read is an event too.
    Show {
        /// Only those of a patient, by any identifier.
        #[arg(long)]
        patient: Option<String>,
        /// Only those of a study.
        #[arg(long)]
        study: Option<String>,
        /// Only those somebody caused: an account, an AE title, an application, `isocenter`.
        #[arg(long)]
        user: Option<String>,
        /// Only those of a result: its run, or the UID or control id it went out under.
        #[arg(long)]
        result: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Writes everything that is sealed to a file.
    Export {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Checks an export. Needs neither data folder nor database.
    Verify {
        /// The file.
        file: PathBuf,
        /// The file with the public key, or the key in hex.
        #[arg(long)]
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Makes tables, guards and roles, as a user who may.
    Prepare {
        /// URL of the database, with a user who owns it.
        #[arg(long)]
        as_owner: String,
    },
}
