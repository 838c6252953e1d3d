//! `isocenter workflow`: which workflows are active, and which would take a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::matching::matches;
use super::Execute;
use super::scratch::ScratchSite;
use super::test::show_coverage;
use crate::activation::failures;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, decision, json, line, list};
use crate::site_args::SiteArgs;
use crate::workflows::{WorkflowFile, read_one, rendered};

mod matching;

/// The first digits of a version's digest, enough to tell versions apart.
const SHORT_DIGEST: usize = 12;

/// Activates workflows, lists the active ones, and tries which would take a file.
#[derive(Args)]
pub(crate) struct Workflow {
    #[command(subcommand)]
    command: WorkflowCommand,
}

#[derive(Subcommand)]
enum WorkflowCommand {
    /// Lists the active versions, and those before them.
    List(ListArgs),
    /// Runs the tests of a file and activates its workflow. A running engine uses it at once.
    Activate {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        installation: InstallationArgs,
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Deactivates a workflow. Its runs go on.
    Deactivate {
        /// The name of the workflow.
        name: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Activates the version before the current one again.
    Rollback {
        /// The name of the workflow.
        name: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Shows which workflows would take DICOM files or HL7 messages, and why others would not.
    Match {
        /// Files or folders.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        installation: InstallationArgs,
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Writes the JSON Schema of workflow files, for editors.
    Schema,
}

const HEADINGS: [&str; 5] = ["", "workflow", "version", "since", "by"];

impl Execute for Workflow {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            WorkflowCommand::List(arguments) => show(arguments).await,
            WorkflowCommand::Activate { file, installation, site } => {
                activate(&file, &installation, &site).await
            }
            WorkflowCommand::Deactivate { name, installation } => {
                let is_deactivated = installation
                    .query(async |store| store.deactivate(&name, operator()).await)
                    .await?;
                Ok(decision(is_deactivated, "it starts no more runs", "no such workflow is active"))
            }
            WorkflowCommand::Rollback { name, installation } => {
                let digest = installation
                    .query(async |store| store.roll_back(&name, operator()).await)
                    .await?;
                let version = digest.as_deref().map(shortened).unwrap_or_default();
                let done = format!("version {version} is active");
                Ok(decision(digest.is_some(), &done, "there is no version before this one"))
            }
            WorkflowCommand::Match { files, installation, site } => {
                let read = ScratchSite::read(&installation.read()?, &site, &[]).await?;
                matches(&files, &read.site.workflows)?;
                Ok(ExitCode::SUCCESS)
            }
            WorkflowCommand::Schema => {
                json(&workflow::schema())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

async fn show(arguments: ListArgs) -> Result<ExitCode, Failure> {
    let ListArgs { installation, json, limit } = arguments;
    let activations = installation.query(async |store| store.activations(limit).await).await?;
    list(json, &activations, &HEADINGS, |it| {
        let mark = if it.is_current { "now" } else { "" };
        let version = it.digest.as_deref().map_or("off", shortened);
        vec![mark.into(), it.name.clone(), version.into(), it.at.clone(), it.by.clone()]
    })
}

/// A digest as people compare it.
fn shortened(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST).unwrap_or(digest)
}

/// Activates the workflow of a file. The exit code is 1 if a test of it fails: then the version
/// that was active stays active.
async fn activate(
    file: &Path,
    arguments: &InstallationArgs,
    site: &SiteArgs,
) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::from_error(&format!("cannot read `{}`", file.display()), &error)
    })?;
    let installation = arguments.read()?;
    let site = SiteArgs { workflows: None, ..site.clone() };
    let read = ScratchSite::read(&installation, &site, &[&text]).await?;
    let offered = WorkflowFile { path: file.to_owned(), text };
    let active = read_one(&offered, &read.site.host, &read.site.destinations).await;
    let active = active.map_err(|it| Failure::new(format!("\n{}", rendered(&[it]))))?;
    let name = &active.reference.name;
    let trial = workflow::trial(&active.workflow);
    show_coverage(name, &trial);
    let failures = failures(&active.workflow);
    if !failures.is_empty() {
        for failure in &failures {
            line(format_args!("FAIL {failure}"));
        }
        line("it was not activated");
        return Ok(ExitCode::FAILURE);
    }
    if trial.outcomes.is_empty() {
        line("note: the file has no tests; nothing was tried");
    }
    installation
        .query(async |store| store.activate(&active.reference, &active.text, operator()).await)
        .await?;
    let version = shortened(&active.reference.digest);
    let tests = trial.outcomes.len();
    line(format_args!("{name}, version {version}, is active; {tests} tests passed"));
    Ok(ExitCode::SUCCESS)
}
