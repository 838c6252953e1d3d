//! `isocenter test`: the tests inside the workflows.

use std::process::ExitCode;

use clap::Args;

use super::Execute;
use super::scratch::ScratchSite;
use crate::installation::InstallationArgs;
use crate::output::{Failure, exit_code, line};
use crate::site_args::SiteArgs;

/// Runs the tests inside the workflows. The exit code is 1 if one fails.
#[derive(Args)]
pub(crate) struct Test {
    #[command(flatten)]
    installation: InstallationArgs,
    #[command(flatten)]
    site: SiteArgs,
}

impl Execute for Test {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let tested = ScratchSite::read(&self.installation.read()?, &self.site, &[]).await?;
        let mut passed = 0;
        let mut failed = 0;
        for active in &tested.site.workflows {
            let trial = workflow::trial(&active.workflow);
            let name = &active.reference.name;
            for outcome in &trial.outcomes {
                if outcome.differences.is_empty() {
                    passed += 1;
                    line(format_args!("ok   {name} test {}", outcome.number));
                } else {
                    failed += 1;
                    line(format_args!("FAIL {name} test {}", outcome.number));
                    outcome.differences.iter().for_each(|it| line(format_args!("     {it}")));
                }
            }
            show_coverage(name, &trial);
        }
        line(format_args!("{passed} passed, {failed} failed"));
        Ok(exit_code(failed == 0))
    }
}

/// Shows which branches of a workflow its tests never took.
pub(super) fn show_coverage(name: &str, trial: &workflow::Trial) {
    let tried = trial.branches - trial.uncovered.len();
    line(format_args!("     {name}: {tried} of {} branches tried", trial.branches));
    trial.uncovered.iter().for_each(|it| line(format_args!("     never: {it}")));
}
