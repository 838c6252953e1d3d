//! `isocenter disk`: how full the disk is, for people and for monitoring.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use upkeep::disk::{DiskLevel, DiskMarks, DiskUsage};

use super::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, exit_code, json, line};

/// Shows how full the disk with the data is, and at which marks the engine reacts. The exit code is
/// 1 from the mark on at which new senders are turned away.
#[derive(Args)]
pub(crate) struct Disk {
    /// Show it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// What is shown. Marks and usage are per cent of the disk.
#[derive(Serialize)]
struct DiskReport {
    percent: u64,
    free_bytes: u64,
    warn: u8,
    turn_away: u8,
    refuse: u8,
    accepts: &'static str,
}

impl DiskReport {
    fn new(usage: DiskUsage, marks: DiskMarks) -> Self {
        Self {
            percent: usage.percent,
            free_bytes: usage.free_bytes,
            warn: marks.warn,
            turn_away: marks.turn_away(),
            refuse: marks.refuse,
            accepts: accepts(marks.level(usage)),
        }
    }
}

/// What the engine accepts at a level.
const fn accepts(level: DiskLevel) -> &'static str {
    match level {
        DiskLevel::Roomy | DiskLevel::Filling => "everything",
        DiskLevel::NearlyFull => "connected senders",
        DiskLevel::Full => "nothing",
    }
}

impl Execute for Disk {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let installation = self.installation.read()?;
        let marks = installation.config.disk;
        let usage = DiskUsage::measure(&installation.data).ok_or_else(|| {
            let data = installation.data.display();
            Failure::new(format!("the disk of `{data}` cannot be measured"))
                .with_hint("name the data folder of the site: --data or --config")
        })?;
        let report = DiskReport::new(usage, marks);
        if self.json {
            json(&report)?;
        } else {
            line(format_args!(
                "{} % used, {} MiB free; marks at {}, {} and {} %; the engine accepts {}",
                report.percent,
                report.free_bytes >> 20,
                report.warn,
                report.turn_away,
                report.refuse,
                report.accepts,
            ));
        }
        Ok(exit_code(marks.level(usage) < DiskLevel::NearlyFull))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_the_mark_that_holds_when_none_is_named() {
        let marks = DiskMarks { warn: 92, turn_away: None, refuse: 95 };
        let usage = DiskUsage { percent: 93, free_bytes: 1 << 40 };
        let report = DiskReport::new(usage, marks);
        assert_eq!(report.turn_away, 92);
        assert_eq!(report.accepts, "connected senders");
    }
}
