//! Destinations: how they fare, pausing them, and trying whether they answer.

use std::process::ExitCode;

use dimse::{Remote, Timers};
use encoding::hl7_charset::Hl7Charset;
use hl7::MllpDestination;
use jiff::Zoned;

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

async fn test(name: &str, place: &Place) -> Result<(), Failure> {
    let config = Config::read(place)?;
    let it = known(&config, name)?;
    if let Some(pacs) = &it.dicom {
        let remote = Remote {
            address: pacs.address.clone(),
            called: pacs.ae_title.clone(),
            calling: own_ae_title(&config)?,
            timers: Timers::default(),
        };
        remote.echo().await.map_err(|error| {
            let what = format!(
                "{name} ({} at {}) does not answer C-ECHO; it must know us as {}",
                pacs.ae_title, pacs.address, remote.calling
            );
            Failure::from_error(&what, &error)
        })?;
        line(format_args!("{name}: {} at {} answers C-ECHO", pacs.ae_title, pacs.address));
    } else if let Some(ehr) = &it.mllp {
        let charset = Hl7Charset::parse(&ehr.character_set, Hl7Charset::Utf8)
            .map_err(|error| Failure::from_error("character_set", &error))?;
        let now = Zoned::now().strftime("%Y%m%d%H%M%S%z").to_string();
        // A message about nobody that says it is one for training.
        let message = format!(
            "MSH|^~\\&|ISOCENTER|AI|{}|{}|{now}||NMD^N02|T{}|T|2.5.1|||AL|NE||{}\r\
             NCK|{now}\r",
            ehr.application,
            ehr.facility,
            jiff::Timestamp::now().as_second(),
            ehr.character_set
        );
        let answer = MllpDestination::new(ehr.address.clone(), charset).exchange(&message).await;
        let answer = answer.map_err(|error| {
            Failure::from_error(&format!("{name} at {} does not answer", ehr.address), &error)
        })?;
        let msa = answer.segment("MSA").map(|it| answer.value(it, 1, 1)).unwrap_or_default();
        line(format_args!("{name}: {} answers a test message with {msa}", ehr.address));
    } else if let Some(folder) = &it.folder {
        let probe = folder.join(format!(".isocenter-test-{}", std::process::id()));
        let tried = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&probe, b""))
            .and_then(|()| std::fs::remove_file(&probe));
        tried.map_err(|error| {
            Failure::from_error(
                &format!("{name}: `{}` cannot be written", folder.display()),
                &error,
            )
        })?;
        line(format_args!("{name}: {} can be written", folder.display()));
    }
    Ok(())
}
