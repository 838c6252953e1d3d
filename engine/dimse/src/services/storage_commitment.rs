//! Storage Commitment Push Model: answers N-ACTION and N-EVENT-REPORT (PS3.4, Annex J).
//!
//! A request is stored and answered at once; its result follows by N-EVENT-REPORT, on the same
//! association if it is known within a few seconds, else by
//! [`Reporter`](crate::commitment_reporter::Reporter) on one of ours. The N-EVENT-REPORT of a peer
//! is its answer to a request that `storage_scu` has sent (DIN-30, DIN-31, DIN-34).

use std::sync::Arc;

use async_trait::async_trait;
use contracts::{CommitmentIntake, CommitmentRequest, Refusal, RefusalReason, ReportEnd};

use crate::commitment_data::{
    BYTES_MAX, DataSetError, REQUEST, read_answer, read_request, write_result,
};
use crate::message::{CommandField, Status};
use crate::services::{
    DataSets, EventReport, Notification, Offer, Request, Response, Service, StatusMeaning,
};
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE, SopClass};
use crate::transfer_syntax::TransferSyntaxChoice;

/// The Storage Commitment service.
pub(crate) struct StorageCommitment;

static OFFER: Offer = Offer {
    name: "Storage Commitment Push Model",
    is_also_user: true,
    sop_classes: &[SopClass { uid: COMMITMENT, name: "Storage Commitment Push Model SOP Class" }],
    transfer_syntaxes: TransferSyntaxChoice::Uncompressed,
    // The user of commitment requests it; the provider that answers a request of ours calls back.
    can_requestor_be_scp: true,
    extended_negotiation: None,
    stores: true,
    commands: &[CommandField::N_ACTION, CommandField::N_EVENT_REPORT],
    data_sets: DataSets::InMemory { bytes_max: BYTES_MAX },
    statuses: &[
        StatusMeaning::new(Status::SUCCESS, "the request, or the result, is stored"),
        StatusMeaning::new(
            Status::PROCESSING_FAILURE,
            "the data set cannot be read or is too long, or nothing can be stored now",
        ),
        StatusMeaning::new(
            Status::NO_SUCH_INSTANCE,
            "another instance than the well-known one of storage commitment",
        ),
        StatusMeaning::new(Status::NO_SUCH_EVENT, "N-EVENT-REPORT: the event type is not 1 or 2"),
        StatusMeaning::new(
            Status::INVALID_ARGUMENT,
            "a reference without a valid SOP class or instance UID, or a result for a transaction \
             that the engine never requested",
        ),
        StatusMeaning::new(
            Status::MISSING_ATTRIBUTE,
            "no valid Transaction UID (0008,1195), or no reference in (0008,1199)",
        ),
        StatusMeaning::new(Status::NO_SUCH_ACTION, "N-ACTION: the action type is not 1"),
        StatusMeaning::new(Status::UNRECOGNIZED_OPERATION, "an operation that is not offered"),
    ],
    remarks: "The files are read again and compared with the digest they were stored under. \
         N-EVENT-REPORT comes on the same association within 5 s, else on one of ours to the \
         address of the peer in the site file, attempted for seven days. Event Type 1: everything \
         is committed. Event Type 2: Failure Reason 0112 never stored here, 0119 of another SOP \
         class, 0110 the file has changed, 0131 the Transaction UID was used for other references. \
         What is committed is retained until the retention policy of the site says otherwise.",
};

#[async_trait]
impl Service for StorageCommitment {
    fn offer(&self) -> &'static Offer {
        &OFFER
    }

    async fn answer_with_data_set(&self, request: &Request<'_>, data_set: &[u8]) -> Response {
        if request.context.abstract_syntax != COMMITMENT || request.command.sop_class != COMMITMENT
        {
            return Response::unrecognized_operation();
        }
        if request.command.sop_instance != COMMITMENT_INSTANCE {
            let comment = "storage commitment has one well-known instance, which is not this";
            return Response::new(Status::NO_SUCH_INSTANCE, comment);
        }
        let outcome = match (request.command.field, request.command.type_id) {
            (CommandField::N_ACTION, Some(REQUEST)) => accept_request(request, data_set).await,
            (CommandField::N_ACTION, _) => {
                Err(Response::new(Status::NO_SUCH_ACTION, "the action type is not 1"))
            }
            _ => accept_answer(request, data_set).await,
        };
        outcome.unwrap_or_else(|response| response)
    }
}

/// Stores a request of the peer. The response carries the notification of its result.
async fn accept_request(request: &Request<'_>, data_set: &[u8]) -> Result<Response, Response> {
    let transfer_syntax = &request.context.transfer_syntax;
    let commitment = read_request(data_set, transfer_syntax).map_err(unreadable)?;
    if commitment.references.is_empty() {
        return Err(Response::new(Status::MISSING_ATTRIBUTE, "no reference in (0008,1199)"));
    }
    let negotiated = &request.association.negotiated;
    let commitments = &request.association.intakes.commitments;
    let notification = CommitmentNotification {
        peer: negotiated.calling.to_string(),
        transaction: commitment.transaction.clone(),
        transfer_syntax: transfer_syntax.clone(),
        commitments: Arc::clone(commitments),
    };
    let accepted = commitments.accept_commitment_request(CommitmentRequest {
        transaction: commitment.transaction,
        calling_ae: negotiated.calling.to_string(),
        called_ae: negotiated.called.to_string(),
        address: request.association.address.clone(),
        references: commitment.references,
    });
    accepted.await.map_err(refused)?;
    Ok(Response { notification: Some(Box::new(notification)), ..Response::success() })
}

/// Stores what the peer answers to a request of ours.
async fn accept_answer(request: &Request<'_>, data_set: &[u8]) -> Result<Response, Response> {
    let syntax = &request.context.transfer_syntax;
    let answer = read_answer(request.command.type_id, data_set, syntax).map_err(unreadable)?;
    let association = request.association;
    let peer = association.negotiated.calling.as_str();
    let commitments = &association.intakes.commitments;
    let accepted = commitments.accept_commitment_answer(answer, peer, &association.address);
    accepted.await.map_err(refused)?;
    Ok(Response::success())
}

/// The result of a request, to be reported on the association the request came on.
struct CommitmentNotification {
    peer: String,
    transaction: String,
    transfer_syntax: String,
    commitments: Arc<dyn CommitmentIntake>,
}

#[async_trait]
impl Notification for CommitmentNotification {
    fn key(&self) -> &str {
        &self.transaction
    }

    async fn ready(&self) -> Option<EventReport> {
        let claim = self.commitments.claim_commitment_reply(&self.peer, &self.transaction);
        let report = write_result(&claim.await?, &self.transfer_syntax);
        Some(EventReport {
            sop_class: COMMITMENT,
            sop_instance: COMMITMENT_INSTANCE,
            event_type: report.event_type,
            data_set: report.data_set,
        })
    }

    async fn finish(&self, end: ReportEnd) {
        self.commitments.finish_commitment_reply(&self.peer, &self.transaction, end).await;
    }
}

fn unreadable(error: DataSetError) -> Response {
    let status = match error {
        DataSetError::Unreadable => Status::PROCESSING_FAILURE,
        DataSetError::NoTransaction => Status::MISSING_ATTRIBUTE,
        DataSetError::BadReference => Status::INVALID_ARGUMENT,
        DataSetError::NoSuchEvent => Status::NO_SUCH_EVENT,
    };
    Response::new(status, error.to_string())
}

fn refused(refusal: Refusal) -> Response {
    let status = match refusal.reason {
        RefusalReason::InvalidInstance => Status::INVALID_ARGUMENT,
        RefusalReason::OutOfResources
        | RefusalReason::CannotUnderstand
        | RefusalReason::DoesNotMatchClass => Status::PROCESSING_FAILURE,
    };
    Response::new(status, refusal.comment)
}
