//! Events of deliveries to destinations, and of the destinations themselves.

use serde::Serialize;
use uuid::Uuid;

use crate::OutputKind;
use crate::event::body::{details, event};

event! {
    /// A delivery waits for its turn to be sent.
    pub struct DeliveryQueued: E {
        /// The output kinds it consists of; not recorded when it is queued again.
        what: Option<Vec<OutputKind>>,
        /// Why it was queued again.
        reason: Option<String>,
    }
}

event! {
    /// A delivery is not sent until somebody resolves why.
    pub struct DeliveryBlocked: E {
        /// The output kinds it consists of, if it was blocked before the first attempt.
        what: Option<Vec<OutputKind>>,
        /// Why, if it was blocked before the first attempt.
        reason: Option<String>,
        /// The later run whose result is sent instead.
        replaced_by: Option<Uuid>,
        /// Number of the attempt that found it must not be sent.
        attempt: Option<i32>,
    }
}

details! {
    /// One attempt to make a delivery.
    pub struct DeliveryAttempt {
        /// Number of the attempt, from one.
        attempt: i32,
    }
}

event! {
    /// An attempt to make a delivery began.
    pub struct DeliveryStarted(DeliveryAttempt): E;
}

/// An output as the trail names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComposedOutput {
    /// The output kind.
    pub kind: OutputKind,
    /// SOP Instance UID, message control ID or document identifier.
    pub id: String,
}

/// An image that could not be decoded, so that the findings were not drawn into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OmittedPicture {
    /// Its SOP Instance UID.
    pub instance: String,
    /// Why it cannot be decoded.
    pub reason: String,
}

event! {
    /// The outputs of a delivery were composed with the identity of the moment, and stored.
    pub struct ReportComposed: E {
        /// What was composed.
        outputs: Vec<ComposedOutput>,
        /// Images that it has no picture of.
        omitted: Vec<OmittedPicture>,
        /// The engine's key of the stored outputs.
        payload: Uuid,
        /// Digest of the content with a salt that is erased with the patient's key.
        salted_sha256: String,
    }
}

details! {
    /// What ended an attempt, or the wait for a commitment.
    pub struct DeliveryOutcome {
        /// Number of the attempt that ended.
        attempt: Option<i32>,
        /// Transaction UID of the storage commitment that was answered.
        commitment: Option<String>,
    }
}

event! {
    /// The destination acknowledged the delivery, and committed to it where it is to.
    pub struct Delivered(DeliveryOutcome): E;
}

event! {
    /// The destination accepted the delivery; its storage commitment is awaited.
    pub struct DeliveryPromised(DeliveryAttempt): E;
}

event! {
    /// An attempt failed, or the destination did not commit; the engine will try again.
    pub struct DeliveryPostponed(DeliveryOutcome): E;
}

event! {
    /// A delivery failed for good; a person was asked.
    pub struct DeliveryFailed: E {
        /// Number of the attempt that failed; none if the storage commitment did not come in time.
        attempt: Option<i32>,
    }
}

event! {
    /// A person had a delivery sent again.
    pub struct DeliveryResent: E {}
}

event! {
    /// A report was delivered under an identity that no longer holds (HL7-34).
    pub struct IdentityChangedAfterDelivery: U {
        /// The delivery; none if the identity changed while it was sent.
        delivery: Option<Uuid>,
    }
}

event! {
    /// An order was found for a study after a report on it was delivered without the order (DIN-65).
    pub struct OrderLinkedAfterDelivery: U {
        /// The delivery.
        delivery: Uuid,
        /// The engine's key of the order.
        order: Uuid,
    }
}

details! {
    /// A delivery whose identity or order no longer holds.
    pub struct StaleDelivery {
        /// The engine's key of the delivery.
        delivery: Uuid,
    }
}

event! {
    /// A delivered report is sent again under the identity or with the order that holds now.
    pub struct CorrectionQueued(StaleDelivery): E;
}

event! {
    /// A delivered report stays as it is: the destination learns of the change itself.
    pub struct DeliveryLeftAsItWas(StaleDelivery): E;
}

event! {
    /// A destination was paused, by a person or after a failure that people have to look at.
    pub struct DestinationPaused: U {}
}

event! {
    /// A person resumed a destination.
    pub struct DestinationResumed: U {}
}

event! {
    /// A destination failed several times in a row: nothing is sent to it for a while (circuit
    /// breaker).
    pub struct DestinationRests: E {}
}

event! {
    /// A destination that had failed answered again.
    pub struct DestinationBack: E {}
}
