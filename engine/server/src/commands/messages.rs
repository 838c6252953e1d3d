//! `isocenter messages`: the newest HL7 messages and documents.

use std::process::ExitCode;

use clap::Args;

use super::Execute;
use crate::installation::ListArgs;
use crate::output::{Failure, list};

/// Lists the newest messages.
#[derive(Args)]
pub(crate) struct Messages {
    #[command(flatten)]
    list: ListArgs,
}

const HEADINGS: [&str; 6] = ["received", "sender", "type", "control id", "answer", "remark"];

impl Execute for Messages {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let ListArgs { installation, json, limit } = self.list;
        let messages = installation.query(async |store| store.messages(limit).await).await?;
        list(json, &messages, &HEADINGS, |it| {
            vec![
                it.received_at.clone(),
                it.sender.clone(),
                it.message_type.clone(),
                it.control_id.clone(),
                it.code.clone(),
                it.problem.clone().unwrap_or_else(|| it.flags.join(", ")),
            ]
        })
    }
}
