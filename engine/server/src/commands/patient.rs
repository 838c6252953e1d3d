//! Taking back that two patients were taken for one (HL7-37).

use store::UnmergeError;

use crate::args::PatientCommand;
use crate::commands::ask::person;
use crate::open::Opened;
use crate::output::{Failure, json, line, table};

pub(crate) async fn patient(command: PatientCommand) -> Result<(), Failure> {
    let failed = |error: &UnmergeError| Failure::from_error("nothing was changed", error);
    match command {
        PatientCommand::Unmerge { source, survivor, place } => {
            let opened = Opened::open(&place).await?;
            let request = opened.store.ask_unmerge(&source, &survivor, person()).await;
            opened.close().await;
            let request = request.map_err(|error| failed(&error))?;
            line(format_args!("{request}"));
            line("a second person approves it with: isocenter patient approve REQUEST");
        }
        PatientCommand::Approve { request, place } => {
            let opened = Opened::open(&place).await?;
            let outcome = opened.store.approve_unmerge(request, person()).await;
            opened.close().await;
            outcome.map_err(|error| failed(&error))?;
            line("the merge is taken back; what was filed under it is being put right");
        }
        PatientCommand::Requests(listing) => {
            let opened = Opened::open(&listing.place).await?;
            let rows = opened.store.unmerge_requests().await;
            opened.close().await;
            let rows =
                rows.map_err(|error| Failure::from_error("the database does not answer", &error))?;
            if listing.json {
                return json(&rows);
            }
            let cells = |(id, who, since): &(uuid::Uuid, String, String)| {
                vec![id.to_string(), who.clone(), since.clone()]
            };
            let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
            table(&["request", "asked by", "since"], &rows);
        }
    }
    Ok(())
}
