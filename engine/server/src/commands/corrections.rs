//! `isocenter corrections`: what people changed in drafts.

use std::process::ExitCode;

use clap::Args;

use super::Execute;
use crate::installation::ListArgs;
use crate::operator::operator;
use crate::output::{Failure, list};

/// Lists what people changed in drafts: in reviews here, at workstations and in the RIS.
#[derive(Args)]
pub(crate) struct Corrections {
    #[command(flatten)]
    list: ListArgs,
}

const HEADINGS: [&str; 4] = ["run", "source", "origin", "at"];

impl Execute for Corrections {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let ListArgs { installation, json, limit } = self.list;
        let corrections =
            installation.query(async |store| store.corrections(limit, operator()).await).await?;
        list(json, &corrections, &HEADINGS, |it| {
            vec![it.run.to_string(), it.source.clone(), it.origin.clone(), it.at.clone()]
        })
    }
}
