//! `isocenter model list`: the models of this site.

use std::process::ExitCode;

use clap::Args;
use inference::{ModelCard, ModelKind};

use super::{store, unusable};
use crate::commands::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, list};

/// Lists the models of this site.
#[derive(Args)]
pub(super) struct List {
    /// Show them as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

const HEADINGS: [&str; 5] = ["model", "gives", "numbers", "licence", "clinical use decided by"];

impl Execute for List {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let cards = store(&self.installation)?.list().map_err(|it| unusable(&it))?;
        list(self.json, &cards, &HEADINGS, cells)
    }
}

fn cells(card: &ModelCard) -> Vec<String> {
    let gives = match card.kind {
        ModelKind::PageReader => "print on pages",
        ModelKind::Language if card.can_segment => "text, masks",
        ModelKind::Language => "text",
    };
    let numbers = match card.kind {
        ModelKind::PageReader => format!("{:.0} MB", card.bytes as f64 / 1e6),
        ModelKind::Language => {
            let bits = if card.is_eight_bit { ", eight bits" } else { "" };
            format!("{:.2} billion{bits}", card.parameters as f64 / 1e9)
        }
    };
    let decided_by = card.clinical_use_decided_by.clone();
    vec![
        card.name.clone(),
        gives.to_owned(),
        numbers,
        card.licence.clone(),
        decided_by.unwrap_or_else(|| card.warning().unwrap_or_default().to_owned()),
    ]
}
