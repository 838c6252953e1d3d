//! Events of patient identity: merges, moves, links, and their reversal (HL7-30..37).
//!
//! An event of two patients is recorded twice, once for each, so that an auditor who searches for
//! either finds it (HL7-35).

use uuid::Uuid;

use crate::event::body::{details, event};

event! {
    /// A patient became known to the engine.
    pub struct PatientAdded: C {}
}

event! {
    /// The demographics of a patient were changed by a message.
    pub struct PatientUpdated: U {}
}

details! {
    /// Two patients who are the same from now on.
    pub struct MergedPatients {
        /// The patient whose identity ends.
        from: Uuid,
        /// The patient who remains.
        to: Uuid,
        /// When the sender states it happened (RFC 3339).
        stated_at: String,
    }
}

event! {
    /// Two patients were merged (ADT^A40).
    pub struct PatientsMerged(MergedPatients): U;
}

event! {
    /// The identifier of a patient was changed (ADT^A47).
    pub struct PatientIdentifierChanged(MergedPatients): U;
}

event! {
    /// A patient was moved to another person (ADT^A43).
    pub struct PatientMoved(MergedPatients): U;
}

details! {
    /// Two patients whose records belong together without being merged.
    pub struct PatientPair {
        /// The patient with the smaller key.
        one: Uuid,
        /// The other patient.
        other: Uuid,
    }
}

event! {
    /// Two patients were linked (ADT^A24).
    pub struct PatientsLinked(PatientPair): U;
}

event! {
    /// The link of two patients was removed (ADT^A37).
    pub struct PatientsUnlinked(PatientPair): U;
}

details! {
    /// Orders that belong to another patient from now on.
    pub struct MovedOrders {
        /// The patient they belonged to.
        from: Uuid,
        /// The patient they belong to now.
        to: Uuid,
        /// How many orders were moved.
        orders: usize,
    }
}

event! {
    /// An account was moved to another patient with its orders (ADT^A44).
    pub struct AccountMoved(MovedOrders): U;
}

event! {
    /// A visit was moved to another patient with its orders (ADT^A45).
    pub struct VisitMoved(MovedOrders): U;
}

details! {
    /// Orders whose account or visit has another number from now on.
    pub struct RenumberedOrders {
        /// How many orders were changed.
        orders: u64,
    }
}

event! {
    /// The number of an account was changed (ADT^A49).
    pub struct AccountRenumbered(RenumberedOrders): U;
}

event! {
    /// The number of a visit was changed (ADT^A50).
    pub struct VisitRenumbered(RenumberedOrders): U;
}

event! {
    /// A person asked to reverse a merge; a second person has to approve (HL7-37).
    pub struct UnmergeAsked: C {
        /// The engine's key of the request.
        request: Uuid,
        /// The patient whose identity had ended.
        from: Uuid,
        /// The patient who had remained.
        to: Uuid,
        /// The engine's key of the token of the person who asks.
        token: Uuid,
        /// The account that created this token.
        issued_by: String,
    }
}

event! {
    /// Results of two patients that were combined while the two were one stand apart again; what was
    /// concluded from them together is held (HL7-37).
    pub struct ResultsSeparated: U {
        /// The message whose results held in place of others.
        message: Uuid,
        /// A message of the other patient that they were combined with.
        other: Uuid,
    }
}

event! {
    /// A merge was reversed (HL7-37).
    pub struct PatientsUnmerged: U {
        /// The engine's key of the request.
        request: Uuid,
        /// The patient whose identity had ended.
        from: Uuid,
        /// The patient who had remained.
        to: Uuid,
        /// Who had asked for it.
        asked_by: String,
        /// The engine's key of their token.
        asked_token: Uuid,
        /// The engine's key of the token of the person who approves.
        token: Uuid,
        /// The account that created this token.
        issued_by: String,
    }
}
