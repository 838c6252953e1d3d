//! `isocenter support`: a file for the people who are asked for help.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Zoned;
use serde::Serialize;
use serde_json::Value;

use super::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, line};

/// Writes a file for support, with nothing of any patient in it.
#[derive(Args)]
pub(crate) struct Support {
    /// The file to write.
    to: PathBuf,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// What the file holds: numbers, kinds, and names the site gave to workflows and destinations.
#[derive(Serialize)]
struct Bundle {
    isocenter: &'static str,
    made_at: String,
    system: String,
    cpus: usize,
    free_bytes: Option<u64>,
    checks: Vec<store::Check>,
    counts: Value,
}

impl Execute for Support {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let installation = self.installation.read()?;
        let (checks, counts) = installation
            .query(async |store| Ok((store.examine().await?, store.support_counts().await?)))
            .await?;
        let bundle = Bundle {
            isocenter: env!("CARGO_PKG_VERSION"),
            made_at: Zoned::now().to_string(),
            system: system(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            free_bytes: upkeep::disk::DiskUsage::measure(&installation.data)
                .map(|it| it.free_bytes),
            checks,
            counts: serde_json::to_value(counts).unwrap_or_default(),
        };
        let text = serde_json::to_string_pretty(&bundle);
        let text = text.map_err(|error| Failure::from_error("cannot write the file", &error))?;
        let to = self.to.display();
        std::fs::write(&self.to, text)
            .map_err(|error| Failure::from_error(&format!("cannot write `{to}`"), &error))?;
        line(format_args!("{to}: numbers and kinds only; read it before you pass it on"));
        Ok(ExitCode::SUCCESS)
    }
}

/// The operating system, as it describes itself.
fn system() -> String {
    std::fs::read_to_string("/proc/version").unwrap_or_default().trim().to_owned()
}
