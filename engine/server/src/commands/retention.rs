//! What is over: shown, or removed now instead of within minutes.

use std::process::ExitCode;

use archive::DiskArchive;

use crate::args::Listing;
use crate::commands::ask::{failed, person, show};
use crate::config::Config;
use crate::open::Opened;
use crate::output::{Failure, line};
use crate::surroundings::remove_once;

pub(crate) async fn retention(is_dry: bool, listing: &Listing) -> Result<ExitCode, Failure> {
    let config = Config::read(&listing.place)?;
    let terms = config.retention.terms();
    let opened = Opened::open(&listing.place).await?;
    let outcome = if is_dry {
        opened.store.expired(&terms).await.map(Ok)
    } else {
        let archive = DiskArchive::beside(&config.data(&listing.place).join("archive"));
        remove_once(&opened.store, &archive, &terms, &person()).await.map(Err)
    };
    opened.close().await;
    match outcome.map_err(|error| failed(&error))? {
        Ok(mut expired) => {
            let all = expired.len();
            expired.truncate(usize::try_from(listing.limit).unwrap_or(usize::MAX));
            let headings = ["what", "id", "files or payloads", "bytes", "since"];
            show(listing, &expired, &headings, |it| {
                let kind = format!("{:?}", it.kind).to_lowercase();
                vec![
                    kind,
                    it.id.clone(),
                    it.count.to_string(),
                    it.bytes.to_string(),
                    it.since.clone(),
                ]
            })?;
            if !listing.json {
                line(format_args!("{all} would be removed now; nothing was"));
            }
        }
        Err(removed) => line(format_args!(
            "{} studies, messages and runs, {} files were removed",
            removed.things, removed.files
        )),
    }
    Ok(ExitCode::SUCCESS)
}
