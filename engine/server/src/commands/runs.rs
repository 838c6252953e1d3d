//! `isocenter runs`: the newest runs.

use std::process::ExitCode;

use clap::Args;

use super::Execute;
use crate::installation::ListArgs;
use crate::output::{Failure, list};

/// Lists the newest runs.
#[derive(Args)]
pub(crate) struct Runs {
    #[command(flatten)]
    list: ListArgs,
}

const HEADINGS: [&str; 5] = ["started", "workflow", "status", "run", "reason"];

impl Execute for Runs {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let ListArgs { installation, json, limit } = self.list;
        let runs = installation.query(async |store| store.runs(limit).await).await?;
        list(json, &runs, &HEADINGS, |it| {
            vec![
                it.started_at.clone(),
                it.workflow.clone(),
                it.status.clone(),
                it.id.to_string(),
                it.reason.clone(),
            ]
        })
    }
}
