//! `isocenter studies`: the newest studies.

use std::process::ExitCode;

use clap::Args;

use super::Execute;
use crate::installation::ListArgs;
use crate::output::{Failure, list};

/// Lists the newest studies.
#[derive(Args)]
pub(crate) struct Studies {
    #[command(flatten)]
    list: ListArgs,
}

const HEADINGS: [&str; 7] =
    ["last received", "accession", "patient", "modality", "instances", "runs", "study"];

impl Execute for Studies {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let ListArgs { installation, json, limit } = self.list;
        let studies = installation.query(async |store| store.studies(limit).await).await?;
        list(json, &studies, &HEADINGS, |it| {
            vec![
                it.last_received.clone(),
                it.accession.clone(),
                it.patient.clone().unwrap_or_default(),
                it.modalities.clone(),
                it.instances.to_string(),
                it.runs.to_string(),
                it.study.clone(),
            ]
        })
    }
}
