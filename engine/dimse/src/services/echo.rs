//! Verification: answers C-ECHO (PS3.4, Annex A).
//!
//! It is answered even while nothing can be stored: the peer only asks whether the engine is there.

use async_trait::async_trait;

use crate::message::{CommandField, Status};
use crate::services::{DataSets, Offer, Request, Response, Service, StatusMeaning};
use crate::sop_class::{SopClass, VERIFICATION};
use crate::transfer_syntax::TransferSyntaxChoice;

/// The Verification service.
pub(crate) struct Echo;

static OFFER: Offer = Offer {
    name: "Verification",
    is_also_user: true,
    sop_classes: &[SopClass { uid: VERIFICATION, name: "Verification SOP Class" }],
    transfer_syntaxes: TransferSyntaxChoice::Uncompressed,
    can_requestor_be_scp: false,
    extended_negotiation: None,
    stores: false,
    commands: &[CommandField::C_ECHO],
    data_sets: DataSets::None,
    statuses: &[StatusMeaning::new(Status::SUCCESS, "the engine answers")],
    remarks: "",
};

#[async_trait]
impl Service for Echo {
    fn offer(&self) -> &'static Offer {
        &OFFER
    }

    async fn answer(&self, _request: &Request<'_>) -> Response {
        Response::success()
    }
}
