//! `isocenter serve`: runs the engine.

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::error;

use super::Execute;
use crate::installation::InstallationArgs;
use crate::output::Failure;
use crate::run;
use crate::site_args::SiteArgs;

/// Runs the engine until it is stopped with SIGTERM or Ctrl-C.
#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    installation: InstallationArgs,
    #[command(flatten)]
    site: SiteArgs,
}

impl Execute for Serve {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let (stop, stopped) = watch::channel(false);
        let signals = tokio::spawn(forward_signals(stop));
        let outcome = run::run(&self.installation, &self.site, stopped, |_| {}).await;
        signals.abort();
        outcome.map(|()| ExitCode::SUCCESS)
    }
}

/// Sends `stop` at the first SIGTERM or SIGINT. Later ones change nothing.
async fn forward_signals(stop: watch::Sender<bool>) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        error!("signals cannot be received: the engine can only be killed");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Without a receiver the engine has ended already.
    _ = stop.send(true);
    std::future::pending::<()>().await;
}
