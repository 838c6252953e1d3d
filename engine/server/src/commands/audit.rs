//! The trail: shown, exported, verified.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use contracts::Store as _;
use domain::{Action, Event, Subject};
use ed25519_dalek::VerifyingKey;
use serde_json::json;
use store::{EventFilter, Sealer, trail_file};

use crate::args::AuditCommand;
use crate::commands::ask::person;
use crate::config::Config;
use crate::open::Opened;
use crate::output::{Failure, json, line, table};

/// Longest wait for the newest events to be sealed.
const SEALING_MAX: Duration = Duration::from_mins(1);

pub(crate) async fn audit(command: AuditCommand) -> Result<(), Failure> {
    let failed =
        |error: &contracts::StoreError| Failure::from_error("the database does not answer", error);
    match command {
        AuditCommand::Show { patient, study, user, result, listing } => {
            let opened = Opened::open(&listing.place).await?;
            let of = EventFilter { patient, study, user, result };
            let rows = opened.store.events(&of, listing.limit, person()).await;
            opened.close().await;
            let rows = rows.map_err(|error| failed(&error))?;
            if listing.json {
                return json(&rows);
            }
            let cells = |it: &store::EventLine| {
                let who = it.body.pointer("/actor/id").and_then(|it| it.as_str());
                let detail = it.body.get("detail").map(ToString::to_string);
                let seq = it.seq.map(|it| it.to_string()).unwrap_or_default();
                let who = who.unwrap_or_default().to_owned();
                vec![seq, it.at.clone(), it.kind.clone(), who, detail.unwrap_or_default()]
            };
            let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
            table(&["seq", "at", "event", "by", "detail"], &rows);
            Ok(())
        }
        AuditCommand::Export { file, place } => {
            let opened = Opened::open(&place).await?;
            let data = Config::read(&place)?.data(&place);
            let detail = json!({});
            let event = Event::engine("trail_exported", Action::R, Subject::default(), detail);
            let told = opened.store.append(vec![event.by(person())]).await;
            told.map_err(|error| failed(&error))?;
            let checkpoints = data.join("trail/checkpoints.jsonl");
            let sealer = Sealer::new(std::sync::Arc::clone(&opened.store), checkpoints);
            let is_whole = sealer.seal_all(SEALING_MAX).await.map_err(|error| failed(&error))?;
            let events = export(&sealer, &file).await;
            opened.close().await;
            line(format_args!("{} events were written to {}", events?, file.display()));
            if is_whole {
                return Ok(());
            }
            Err(Failure::new(
                "the newest events are not sealed yet, for a transaction of the database is open: \
                 they are not in the file; export again later",
            ))
        }
        AuditCommand::Verify { file, key } => verify(&file, &key),
    }
}

async fn export(sealer: &Sealer, path: &Path) -> Result<u64, Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::from_error(&format!("cannot write `{}`", path.display()), error)
    };
    let mut out = BufWriter::new(File::create(path).map_err(|error| cannot(&error))?);
    let events = sealer
        .write_all(&mut out)
        .await
        .map_err(|error| Failure::from_error("the trail cannot be exported", &error))?;
    out.flush().map_err(|error| cannot(&error))?;
    Ok(events)
}

/// Checks an export against a public key. Needs nothing else.
pub(crate) fn verify(path: &Path, key: &str) -> Result<(), Failure> {
    let key = public_key(key)?;
    let file = File::open(path).map_err(|error| {
        Failure::from_error(&format!("cannot read `{}`", path.display()), &error)
    })?;
    match trail_file::verify(BufReader::new(file), &key) {
        Ok(intact) => {
            let (events, batches, at) = (intact.events, intact.batches, intact.exported_at);
            line(format_args!(
                "intact: {events} events in {batches} signed batches, exported {at}"
            ));
            Ok(())
        }
        Err(broken) => Err(Failure::from_error("NOT INTACT", &broken)),
    }
}

/// A public key: a file with one, or the key in hex.
pub(crate) fn public_key(said: &str) -> Result<VerifyingKey, Failure> {
    let text = std::fs::read_to_string(said).unwrap_or_else(|_| said.to_owned());
    let bytes = hex::decode(text.trim()).ok().and_then(|it| <[u8; 32]>::try_from(it).ok());
    let key = bytes.and_then(|it| VerifyingKey::from_bytes(&it).ok());
    key.ok_or_else(|| Failure::new("the key is neither a file with a public key nor one in hex"))
}
