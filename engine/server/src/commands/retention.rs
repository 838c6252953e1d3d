//! `isocenter retention`: shows or removes what has expired.

use std::process::ExitCode;

use archive::DiskArchive;
use clap::Args;
use store::RetainedKind;
use upkeep::retention::remove_expired;

use super::Execute;
use crate::installation::{Installation, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, line, list};

/// Removes images, messages and results that have expired, as the engine does automatically.
#[derive(Args)]
pub(crate) struct Retention {
    /// Remove nothing; list what would be removed.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    list: ListArgs,
}

const HEADINGS: [&str; 5] = ["what", "id", "files or payloads", "bytes", "since"];

impl Execute for Retention {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let installation = self.list.installation.read()?;
        if self.dry_run {
            show(&installation, &self.list).await
        } else {
            remove(&installation).await
        }
    }
}

async fn show(installation: &Installation, arguments: &ListArgs) -> Result<ExitCode, Failure> {
    let terms = installation.config.retention.terms();
    let mut expired = installation.query(async |store| store.expired(&terms).await).await?;
    let count = expired.len();
    expired.truncate(usize::try_from(arguments.limit).unwrap_or(usize::MAX));
    let code = list(arguments.json, &expired, &HEADINGS, |it| {
        vec![
            kind_name(it.kind).to_owned(),
            it.id.clone(),
            it.count.to_string(),
            it.bytes.to_string(),
            it.since.clone(),
        ]
    })?;
    if !arguments.json {
        line(format_args!("{count} would be removed now; nothing was"));
    }
    Ok(code)
}

/// The kind of data, as JSON names it, too.
const fn kind_name(kind: RetainedKind) -> &'static str {
    match kind {
        RetainedKind::Images => "images",
        RetainedKind::Message => "message",
        RetainedKind::Results => "results",
    }
}

async fn remove(installation: &Installation) -> Result<ExitCode, Failure> {
    let terms = installation.config.retention.terms();
    let archive = DiskArchive::beside(&installation.data.join("archive"));
    let removed = installation
        .query(async |store| remove_expired(store, &archive, &terms, &operator()).await)
        .await?;
    line(format_args!(
        "{} studies, messages and runs, {} files were removed",
        removed.items, removed.files
    ));
    Ok(ExitCode::SUCCESS)
}
