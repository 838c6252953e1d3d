//! Storage: answers C-STORE (PS3.4, Annex B; DIN-20, DIN-21).
//!
//! The data set goes to the quarantine of the archive as it arrives, so that no instance is too
//! large for memory. Success is answered only after the intake has made the instance durable.

use async_trait::async_trait;
use contracts::{Incoming, InstanceArrival, InstanceOutcome, Refusal, RefusalReason};
use domain::event::InstanceRefused;
use domain::{Event, Outcome, QualityFlag, Subject};
use encoding::dicom::file_meta::FileMeta;
use tracing::error;

use crate::message::{CommandField, Status};
use crate::services::{
    AssociationContext, DataSetReceiver, DataSets, Offer, Request, Response, Service, StatusMeaning,
};
use crate::sop_class::STORAGE;
use crate::transfer_syntax::TransferSyntaxChoice;

/// The Storage service.
pub(crate) struct Storage;

static OFFER: Offer = Offer {
    name: "Storage",
    is_also_user: true,
    sop_classes: STORAGE,
    transfer_syntaxes: TransferSyntaxChoice::LosslessFirst,
    can_requestor_be_scp: false,
    // Level 2, no digital signatures, no coercion (PS3.4, B.3.1; DIN-10).
    extended_negotiation: Some(&[2, 0, 0, 0, 0, 0]),
    stores: true,
    commands: &[CommandField::C_STORE],
    data_sets: DataSets::Streamed,
    statuses: &[
        StatusMeaning::new(
            Status::SUCCESS,
            "stored; also the identical instance again, and one with the SOP Instance UID of a \
             stored instance and other content, which is stored beside the first \
             (see `dicom.versions`)",
        ),
        StatusMeaning::new(
            Status::COERCION,
            "stored and flagged, and used by no workflow: it contradicts its study or series \
             (patient, study, modality, frame of reference), or one of its UIDs is malformed: Error \
             Comment says which. No element is changed",
        ),
        StatusMeaning::new(
            Status::OUT_OF_RESOURCES,
            "disk or database cannot store it; the association stays open",
        ),
        StatusMeaning::new(
            Status::DOES_NOT_MATCH,
            "(0008,0016) is not the Affected SOP Class UID, or study or series have no UID",
        ),
        StatusMeaning::new(Status::CANNOT_UNDERSTAND, "the data set cannot be read"),
        StatusMeaning::new(
            Status::OTHER_VERSION,
            "another version is stored already, and the site accepts no second one",
        ),
        StatusMeaning::new(
            Status::INVALID_INSTANCE,
            "(0008,0018) is not the Affected SOP Instance UID, or the UID cannot be used at all",
        ),
        StatusMeaning::new(Status::UNRECOGNIZED_OPERATION, "an operation that is not offered"),
        StatusMeaning::new(Status::MISTYPED_ARGUMENT, "a C-STORE without a data set"),
    ],
    remarks: "Private classes, and those of later editions of the standard, are refused unless the \
        site has `dicom.accept_unknown_storage`: then every class outside of the standard's root \
        1.2.840.10008, and every one below 1.2.840.10008.5.1.4.1.1, is accepted as one of Storage. \
        Such instances are stored and forwarded as they came. Beyond PS3.5, an element whose VR is \
        `??`, two spaces or two zeros is read with a length of 16 bits, elements of groups 0000 and \
        0002 and zeros after the last element are passed over, and usual misspellings of character \
        sets are understood; each is flagged.",
};

#[async_trait]
impl Service for Storage {
    fn offer(&self) -> &'static Offer {
        &OFFER
    }

    async fn answer(&self, _request: &Request<'_>) -> Response {
        Response::new(Status::MISTYPED_ARGUMENT, "a C-STORE without a data set")
    }

    fn stream<'a>(&self, request: Request<'a>) -> Box<dyn DataSetReceiver + 'a> {
        let incoming = begin(&request);
        Box::new(Reception { request, incoming })
    }

    async fn association_ended(&self, association: &AssociationContext) {
        association.intakes.instances.association_ended(association.id).await;
    }
}

/// An instance that is arriving, or one that is refused already and only read to its end.
struct Reception<'a> {
    request: Request<'a>,
    incoming: Result<Box<dyn Incoming>, Response>,
}

#[async_trait]
impl DataSetReceiver for Reception<'_> {
    async fn write(&mut self, bytes: &[u8]) {
        if let Ok(incoming) = &mut self.incoming
            && let Err(error) = incoming.write(bytes).await
        {
            error!(%error, "the quarantine cannot be written");
            self.incoming = Err(disk_failed());
        }
    }

    async fn finish(self: Box<Self>) -> Response {
        let Self { request, incoming } = *self;
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(response) => return record_refusal(&request, response).await,
        };
        let file = match incoming.finish().await {
            Ok(file) => file,
            Err(error) => {
                error!(%error, "the quarantine cannot be written");
                return record_refusal(&request, disk_failed()).await;
            }
        };
        let Request { command, context, association } = request;
        let arrival = InstanceArrival {
            calling_ae: association.negotiated.calling.to_string(),
            called_ae: association.negotiated.called.to_string(),
            address: association.address.clone(),
            association: association.id,
            sop_class: command.sop_class.clone(),
            sop_instance: command.sop_instance.clone(),
            transfer_syntax: context.transfer_syntax.clone(),
        };
        response_to(association.intakes.instances.accept_instance(arrival, file).await)
    }
}

/// Opens the quarantine for the data set, unless the request itself is reason to refuse it.
fn begin(request: &Request<'_>) -> Result<Box<dyn Incoming>, Response> {
    let Request { command, context, association } = request;
    if context.abstract_syntax != command.sop_class {
        let comment = "the SOP class is not that of the presentation context";
        return Err(Response::new(Status::DOES_NOT_MATCH, comment));
    }
    // A UID that is only malformed is stored and flagged; one that cannot name a file is refused.
    if !domain::is_harmless_uid(&command.sop_instance) {
        let comment = "the SOP Instance UID is malformed";
        return Err(Response::new(Status::INVALID_INSTANCE, comment));
    }
    let instances = &association.intakes.instances;
    instances
        .check_open()
        .map_err(|refusal| Response::new(Status::OUT_OF_RESOURCES, refusal.comment))?;
    Ok(instances.archive().begin(&FileMeta {
        sop_class: &command.sop_class,
        sop_instance: &command.sop_instance,
        transfer_syntax: &context.transfer_syntax,
        sending_ae: association.negotiated.calling.as_str(),
        receiving_ae: association.negotiated.called.as_str(),
    }))
}

/// Records that an instance was refused before it reached the intake, and returns the response.
/// While the intake refuses everything, the trail has one entry for all of it.
async fn record_refusal(request: &Request<'_>, response: Response) -> Response {
    let Request { command, association, .. } = request;
    if association.intakes.instances.check_open().is_err() {
        return response;
    }
    let instance = Some(command.sop_instance.clone()).filter(|it| domain::is_harmless_uid(it));
    let subject = Subject { instance, ..Subject::default() };
    let body = InstanceRefused {
        reason: response.comment.clone(),
        status: Some(format!("{:04X}", response.status.0)),
    };
    let event = Event::new(subject, body).by(association.actor()).ended(Outcome::MinorFailure);
    association.intakes.events.record_event(event).await;
    response
}

fn disk_failed() -> Response {
    Response::new(Status::OUT_OF_RESOURCES, "the disk cannot be written")
}

fn response_to(outcome: Result<InstanceOutcome, Refusal>) -> Response {
    match outcome {
        // Never 0111 for a duplicate: modalities would send it again forever (DIN-21).
        Ok(InstanceOutcome::New | InstanceOutcome::Identical | InstanceOutcome::OtherVersion) => {
            Response::success()
        }
        Ok(InstanceOutcome::VersionRefused) => {
            Response::new(Status::OTHER_VERSION, "another version of this instance is here already")
        }
        Ok(InstanceOutcome::Flagged(flags)) => {
            let reasons: Vec<&str> = flags.into_iter().filter_map(QualityFlag::conflict).collect();
            Response::new(Status::COERCION, format!("kept, not used: {}", reasons.join("; ")))
        }
        Err(Refusal { reason, comment }) => {
            let status = match reason {
                RefusalReason::OutOfResources => Status::OUT_OF_RESOURCES,
                RefusalReason::CannotUnderstand => Status::CANNOT_UNDERSTAND,
                RefusalReason::DoesNotMatchClass => Status::DOES_NOT_MATCH,
                RefusalReason::InvalidInstance => Status::INVALID_INSTANCE,
            };
            Response::new(status, comment)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Command;

    /// The comment that a sender gets about an instance with these flags.
    fn comment(flags: &[QualityFlag]) -> String {
        let response = response_to(Ok(InstanceOutcome::Flagged(flags.to_vec())));
        assert_eq!(response.status, Status::COERCION);
        Command::request(1, CommandField::C_STORE, 1, "1.2", "1.3")
            .response(response.status, &response.comment)
            .comment
    }

    #[test]
    fn din_61_the_answer_about_an_instance_that_is_not_used_says_why() {
        let patient = QualityFlag::PatientDiffersFromStudy;
        assert_eq!(comment(&[patient]), "kept, not used: patient is not that of its study");
        let series = QualityFlag::SeriesUidMalformed;
        assert_eq!(comment(&[series]), "kept, not used: Series Instance UID is malformed");
        // Every reason fits whole if it is the only one.
        for flag in QualityFlag::ALL.iter().filter(|it| it.is_identity_conflict()) {
            assert!(comment(&[*flag]).ends_with(flag.conflict().unwrap()), "{flag:?}");
        }
        assert_eq!(comment(&[series, patient]).len(), 64);
    }
}
