//! Events of DICOM associations and of the instances that arrive over them.

use crate::QualityFlag;
use crate::event::body::{details, event};

event! {
    /// An association was rejected, or a peer was refused before it could request one.
    pub struct AssociationRefused: E {
        /// Why it was refused.
        reason: String,
        /// The AE title that the peer called.
        called_ae: String,
    }
}

event! {
    /// An association ended without a release: an abort, a lost connection or an expired timer.
    pub struct AssociationEndedEarly: E {
        /// How many messages were exchanged before.
        messages: u64,
        /// What ended it.
        reason: String,
    }
}

details! {
    /// What the trail records of an instance that arrived whole.
    pub struct InstanceFacts {
        /// SHA-256 of the data set, in hex.
        sha256: String,
        /// Length of the data set in bytes.
        bytes: u64,
        /// SOP Class UID.
        sop_class: String,
        /// Transfer syntax UID it arrived in.
        transfer_syntax: String,
        /// AE title that the sender called.
        called_ae: String,
        /// Quality flags: what was wrong with the header.
        flags: Vec<QualityFlag>,
    }
}

event! {
    /// An instance arrived for the first time and was stored.
    pub struct InstanceReceived(InstanceFacts): C;
}

event! {
    /// An instance arrived again with the same content; nothing was stored.
    pub struct DuplicateReceived(InstanceFacts): R;
}

event! {
    /// An instance arrived again with other content, and the new version was stored beside the old
    /// (DIN-22).
    pub struct InstanceVersionReceived(InstanceFacts): C;
}

event! {
    /// An instance arrived again with other content, and site policy refused the new version
    /// (DIN-22).
    pub struct InstanceVersionRefused(InstanceFacts): R;
}

event! {
    /// An instance contradicts its study or series: it was stored and is not used (DIN-61).
    pub struct InstanceFlagged(InstanceFacts): C;
}

event! {
    /// An instance was refused; the sender was given a failure status.
    pub struct InstanceRefused: C {
        /// Why it was refused.
        reason: String,
        /// Status of the C-STORE response as four hex digits, if it was refused before it was read
        /// whole.
        status: Option<String>,
    }
}
