//! `isocenter check`: what can be known before anything runs.

use std::process::ExitCode;

use clap::Args;

use super::Execute;
use super::scratch::{Scratch, ScratchSite};
use crate::installation::InstallationArgs;
use crate::output::{Failure, line};
use crate::plugins::untrusted;
use crate::site_args::SiteArgs;

/// Checks the site file, the workflows and the templates, and shows every problem.
#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    installation: InstallationArgs,
    #[command(flatten)]
    site: SiteArgs,
}

impl Execute for Check {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let installation = self.installation.read()?;
        let checked = ScratchSite::read(&installation, &self.site, &[]).await?;
        let scratch = Scratch::new()?;
        let untrusted = untrusted(&installation, &self.site, scratch.path()).await?;
        if !untrusted.is_empty() {
            let list = untrusted.join("\n  ");
            return Err(Failure::new(format!("plugins that would not be loaded:\n  {list}"))
                .with_hint("`isocenter plugin sign` signs a plugin with the key of this site"));
        }
        for plugin in checked.site.host.plugins() {
            line(format_args!("plugin {} {}", plugin.pin.name, plugin.pin.version));
        }
        for active in &checked.site.workflows {
            let description = &active.workflow.description;
            line(format_args!("workflow {}: {description}", active.reference.name));
        }
        line("everything can be used");
        Ok(ExitCode::SUCCESS)
    }
}
