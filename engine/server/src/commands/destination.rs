//! Destinations: how they fare, pausing them, and trying whether they answer.

use std::process::ExitCode;

use crate::args::{DestinationCommand, Place};
use crate::commands::ask::{failed, finish, person, show};
use crate::config::{Config, DestinationConfig};
use crate::open::Opened;
use crate::output::{Failure, line};
use crate::site::own_ae_title;

pub(crate) async fn destination(command: DestinationCommand) -> Result<ExitCode, Failure> {
    match command {
        DestinationCommand::List(listing) => {
            let opened = Opened::open(&listing.place).await?;
            let rows = opened.store.destinations().await;
            opened.close().await;
            let rows = rows.map_err(|error| failed(&error))?;
            let headings =
                ["destination", "state", "waiting", "failed", "last took", "last failed with"];
            show(&listing, &rows, &headings, |it| {
                vec![
                    it.name.clone(),
                    it.state.clone(),
                    it.waiting.to_string(),
                    it.failed.to_string(),
                    it.last_ok.clone().unwrap_or_default(),
                    it.last_error.clone(),
                ]
            })?;
            Ok(ExitCode::SUCCESS)
        }
        DestinationCommand::Pause { name, place } => pause(&name, true, &place).await,
        DestinationCommand::Resume { name, place } => pause(&name, false, &place).await,
        DestinationCommand::Test { name, place } => {
            test(&name, &place).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

async fn pause(name: &str, is_paused: bool, place: &Place) -> Result<ExitCode, Failure> {
    known(&Config::read(place)?, name)?;
    let opened = Opened::open(place).await?;
    let outcome = opened.store.pause_destination(name, is_paused, person()).await;
    let done = if is_paused { "nothing more is sent to it" } else { "sending goes on" };
    finish(opened, outcome, done, "it was so already").await
}

fn known<'a>(config: &'a Config, name: &str) -> Result<&'a DestinationConfig, Failure> {
    let names: Vec<&str> = config.destinations.keys().map(String::as_str).collect();
    config.destinations.get(name).ok_or_else(|| {
        Failure::new(format!(
            "there is no destination `{name}` in the site file; there are: {}",
            names.join(", ")
        ))
    })
}

/// Asks a destination for a sign of life.
async fn test(name: &str, place: &Place) -> Result<(), Failure> {
    let config = Config::read(place)?;
    let known = known(&config, name)?;
    let destination = known.kind.open(&own_ae_title(&config)?);
    let destination = destination.map_err(|error| Failure::from_error(name, error.as_ref()))?;
    let answer = destination.probe().await.map_err(|error| Failure::from_error(name, &error))?;
    if let Some(answer) = answer {
        line(format_args!("{name}: {answer}"));
    }
    Ok(())
}
