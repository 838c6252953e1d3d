//! Answers what a peer asks: C-ECHO and C-STORE (PS3.4, Annexes A and B; DIN-20, DIN-21).

use contracts::{Incoming, InstanceArrival, Intake, Kept, Refusal, RefusalReason};
use domain::{Action, Actor, Event, Outcome, Subject};
use encoding::file_meta::FileMeta;
use serde_json::json;
use tracing::error;
use uuid::Uuid;

use crate::message::{Command, ECHO, STORE, Status};
use crate::negotiation::Agreed;

/// A data set that is coming in, or one whose refusal is settled and that is only read to its end.
pub(crate) struct Reception {
    command: Command,
    transfer_syntax: String,
    incoming: Result<Box<dyn Incoming>, Answer>,
}

/// Status and comment of a response.
pub(crate) type Answer = (Status, String);

impl Reception {
    /// Begins to receive the data set of `command`.
    pub(crate) fn begin(command: Command, agreed: &Agreed, intake: &dyn Intake) -> Self {
        let context = agreed.contexts.iter().find(|(id, ..)| *id == command.context);
        let transfer_syntax = context.map(|(.., syntax)| syntax.clone()).unwrap_or_default();
        let incoming =
            open(&command, context.map(|it| it.1.as_str()), &transfer_syntax, agreed, intake);
        Self { command, transfer_syntax, incoming }
    }

    /// Takes the next bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        if let Ok(incoming) = &mut self.incoming
            && let Err(error) = incoming.write(bytes).await
        {
            error!(%error, "the quarantine cannot be written");
            self.incoming = Err(out_of_resources());
        }
    }

    /// Hands the whole data set to the intake. Returns once it is kept, or refused.
    pub(crate) async fn finish(
        self,
        agreed: &Agreed,
        (address, association): (&str, Uuid),
        intake: &dyn Intake,
    ) -> (Command, Answer) {
        let Self { command, transfer_syntax, incoming } = self;
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(answer) => {
                tell_refused(&command, &answer, agreed, address, intake).await;
                return (command, answer);
            }
        };
        let file = match incoming.finish().await {
            Ok(file) => file,
            Err(error) => {
                error!(%error, "the quarantine cannot be written");
                let answer = out_of_resources();
                tell_refused(&command, &answer, agreed, address, intake).await;
                return (command, answer);
            }
        };
        let arrival = InstanceArrival {
            calling_ae: agreed.calling.to_string(),
            called_ae: agreed.called.to_string(),
            address: address.to_owned(),
            association,
            sop_class: command.sop_class.clone(),
            sop_instance: command.sop_instance.clone(),
            transfer_syntax,
        };
        let answer = answer_of(intake.keep(arrival, file).await);
        (command, answer)
    }
}

fn open(
    command: &Command,
    abstract_syntax: Option<&str>,
    transfer_syntax: &str,
    agreed: &Agreed,
    intake: &dyn Intake,
) -> Result<Box<dyn Incoming>, Answer> {
    if command.field != STORE {
        return Err((Status::UNRECOGNIZED_OPERATION, String::new()));
    }
    if abstract_syntax != Some(command.sop_class.as_str()) {
        let comment = "the SOP class is not that of the presentation context";
        return Err((Status::DOES_NOT_MATCH, comment.to_owned()));
    }
    // A UID that is only wrong is kept and flagged; one that is no name at all is refused.
    if !domain::is_harmless_uid(&command.sop_instance) {
        return Err((Status::INVALID_INSTANCE, "the SOP Instance UID is malformed".to_owned()));
    }
    intake.is_open().map_err(|refusal| (Status::OUT_OF_RESOURCES, refusal.comment))?;
    Ok(intake.archive().begin(&FileMeta {
        sop_class: &command.sop_class,
        sop_instance: &command.sop_instance,
        transfer_syntax,
        sending_ae: agreed.calling.as_str(),
        receiving_ae: agreed.called.as_str(),
    }))
}

/// Puts on record that an instance was refused before the intake saw it. What is refused while everything is
/// has one entry for all.
async fn tell_refused(
    command: &Command,
    (status, reason): &Answer,
    agreed: &Agreed,
    address: &str,
    intake: &dyn Intake,
) {
    if command.field != STORE || intake.is_open().is_err() {
        return;
    }
    let instance = Some(command.sop_instance.clone()).filter(|it| domain::is_harmless_uid(it));
    let subject = Subject { instance, ..Subject::default() };
    let detail = json!({"reason": reason, "status": format!("{:04X}", status.0)});
    let event = Event::engine("instance_refused", Action::C, subject, detail)
        .by(Actor::peer(agreed.calling.as_str(), address))
        .ended(Outcome::MinorFailure);
    intake.note_event(event).await;
}

fn out_of_resources() -> Answer {
    (Status::OUT_OF_RESOURCES, "the disk cannot be written".to_owned())
}

/// Answers a command that no data set follows.
pub(crate) fn answer_plain(command: &Command) -> Answer {
    match command.field {
        ECHO => (Status::SUCCESS, String::new()),
        STORE => (Status::MISTYPED_ARGUMENT, "a C-STORE without a data set".to_owned()),
        _ => (Status::UNRECOGNIZED_OPERATION, String::new()),
    }
}

fn answer_of(kept: Result<Kept, Refusal>) -> Answer {
    match kept {
        // Never 0111 for a duplicate: modalities would send it for ever (DIN-21).
        Ok(Kept::New | Kept::Identical | Kept::OtherVersion) => (Status::SUCCESS, String::new()),
        Ok(Kept::VersionRefused) => {
            let comment = "another version of this instance is here already";
            (Status::OTHER_VERSION, comment.to_owned())
        }
        Ok(Kept::Flagged) => {
            let comment = "kept and flagged: contradicts its study or series";
            (Status::COERCION, comment.to_owned())
        }
        Err(Refusal { reason, comment }) => {
            let status = match reason {
                RefusalReason::OutOfResources => Status::OUT_OF_RESOURCES,
                RefusalReason::CannotUnderstand => Status::CANNOT_UNDERSTAND,
                RefusalReason::DoesNotMatchClass => Status::DOES_NOT_MATCH,
                RefusalReason::InvalidInstance => Status::INVALID_INSTANCE,
            };
            (status, comment)
        }
    }
}
