//! Answers N-ACTION and N-EVENT-REPORT of storage commitment (PS3.4, J.3; DIN-30, DIN-31, DIN-34).

use contracts::{CommitmentRequest, Intake, Refusal, RefusalReason};

use crate::commitment_data::{
    ALL_COMMITTED, BYTES_MAX, DataSetError, FAILURES_EXIST, REQUEST, read_request, read_result,
};
use crate::message::{ACTION, Command, EVENT_REPORT, Status};
use crate::negotiation::Agreed;
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE};
use crate::storage_scp::Answer;

/// A request with a data set that is read at once, on its way in.
pub(crate) struct Request {
    command: Command,
    bytes: Vec<u8>,
    is_too_long: bool,
}

/// What became of a request.
pub(crate) struct Answered {
    pub(crate) command: Command,
    pub(crate) answer: Answer,
    /// The transaction that was taken on, to be answered on this association if it lasts.
    pub(crate) transaction: Option<String>,
}

impl Request {
    /// Whether a command is one of these.
    pub(crate) const fn is(field: u16) -> bool {
        matches!(field, ACTION | EVENT_REPORT)
    }

    pub(crate) const fn begin(command: Command) -> Self {
        Self { command, bytes: Vec::new(), is_too_long: false }
    }

    /// Takes the next bytes. What is too long is read to its end and not kept.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.is_too_long |= self.bytes.len() + bytes.len() > BYTES_MAX;
        if self.is_too_long {
            self.bytes.clear();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Hands the whole request to the intake. Returns once it is kept, or refused.
    pub(crate) async fn finish(
        self,
        agreed: &Agreed,
        address: &str,
        intake: &dyn Intake,
    ) -> Answered {
        let Self { command, bytes, is_too_long } = self;
        let context = agreed.contexts.iter().find(|(id, ..)| *id == command.context);
        let outcome = match context {
            _ if is_too_long => {
                Err((Status::PROCESSING_FAILURE, "the data set is too long".to_owned()))
            }
            Some((_, class, syntax)) if class == COMMITMENT && command.sop_class == COMMITMENT => {
                Asked { command: &command, bytes: &bytes, syntax, agreed, address, intake }
                    .answered()
                    .await
            }
            _ => Err((Status::UNRECOGNIZED_OPERATION, String::new())),
        };
        let (answer, transaction) = match outcome {
            Ok(transaction) => ((Status::SUCCESS, String::new()), transaction),
            Err(answer) => (answer, None),
        };
        Answered { command, answer, transaction }
    }
}

/// One request, with all that is needed to answer it.
struct Asked<'a> {
    command: &'a Command,
    bytes: &'a [u8],
    syntax: &'a str,
    agreed: &'a Agreed,
    address: &'a str,
    intake: &'a dyn Intake,
}

impl Asked<'_> {
    async fn answered(&self) -> Result<Option<String>, Answer> {
        if self.command.sop_instance != COMMITMENT_INSTANCE {
            let comment = "storage commitment has one well-known instance, which is not this";
            return Err((Status::NO_SUCH_INSTANCE, comment.to_owned()));
        }
        match (self.command.field, self.command.kind) {
            (ACTION, Some(REQUEST)) => self.keep_request().await.map(Some),
            (ACTION, _) => Err((Status::NO_SUCH_ACTION, "the action type is not 1".to_owned())),
            (_, Some(ALL_COMMITTED | FAILURES_EXIST)) => self.note_result().await.map(|()| None),
            _ => Err((Status::NO_SUCH_EVENT, "the event type is neither 1 nor 2".to_owned())),
        }
    }

    async fn keep_request(&self) -> Result<String, Answer> {
        let (transaction, references) = read_request(self.bytes, self.syntax).map_err(status_of)?;
        if references.is_empty() {
            let comment = "no reference in (0008,1199)";
            return Err((Status::MISSING_ATTRIBUTE, comment.to_owned()));
        }
        let request = CommitmentRequest {
            transaction: transaction.clone(),
            calling_ae: self.agreed.calling.to_string(),
            called_ae: self.agreed.called.to_string(),
            address: self.address.to_owned(),
            references,
        };
        self.intake.ask_commitment(request).await.map_err(refused)?;
        Ok(transaction)
    }

    async fn note_result(&self) -> Result<(), Answer> {
        let result = read_result(self.bytes, self.syntax).map_err(status_of)?;
        let peer = self.agreed.calling.as_str();
        self.intake.note_commitment(result, peer, self.address).await.map_err(refused)
    }
}

fn status_of(error: DataSetError) -> Answer {
    let status = match error {
        DataSetError::Unreadable => Status::PROCESSING_FAILURE,
        DataSetError::NoTransaction => Status::MISSING_ATTRIBUTE,
        DataSetError::BadReference => Status::INVALID_ARGUMENT,
    };
    (status, error.to_string())
}

fn refused(refusal: Refusal) -> Answer {
    let status = match refusal.reason {
        RefusalReason::InvalidInstance => Status::INVALID_ARGUMENT,
        _ => Status::PROCESSING_FAILURE,
    };
    (status, refusal.comment)
}
