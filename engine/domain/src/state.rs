//! The states of runs, deliveries, commitments, tokens and the trail, as the database stores them.

use crate::named_enum;

named_enum! {
    /// How far a run is.
    pub enum RunStatus {
        /// Nodes are open.
        Running = "running",
        /// Every node that was needed is done.
        Completed = "completed",
        /// A node failed for good.
        Failed = "failed",
        /// The run was cancelled.
        Cancelled = "cancelled",
    }
}

named_enum! {
    /// How far a delivery is.
    pub enum DeliveryState {
        /// It waits for its turn.
        Queued = "queued",
        /// An attempt is in progress, under a lease.
        Sending = "sending",
        /// The destination accepted it; its storage commitment is awaited.
        AwaitingCommitment = "awaiting_commitment",
        /// The destination has it.
        Delivered = "delivered",
        /// It failed for good; a person has to look.
        Failed = "failed",
        /// It must not be sent until [`BlockReason`] is resolved.
        Blocked = "blocked",
    }
}

named_enum! {
    /// Why a delivery must not be sent.
    pub enum BlockReason {
        /// Images and order belong to two patients (HL7-44). A merge of the two resolves it.
        IdentityConflict = "identity_conflict",
        /// The order was cancelled (HL7-43).
        OrderCancelled = "order_cancelled",
        /// The destination accepts no results that nobody has signed (HL7-52).
        Unverified = "unverified",
        /// A later run, on more instances or on corrected results, replaced the run.
        Replaced = "replaced",
        /// A signed result stands, and nobody has signed the later one that would follow it.
        SignedResult = "signed_result",
        /// The nodes that the delivery needs have no output.
        NoResult = "no_result",
        /// The result cannot be expressed in the form that the destination wants.
        NotComposed = "not_composed",
    }
}

named_enum! {
    /// How far the request of a peer for storage commitment is.
    pub enum CommitmentState {
        /// The instances are yet to be checked.
        Requested = "asked",
        /// The result is yet to be reported.
        Checked = "checked",
        /// The peer has the result.
        Reported = "reported",
        /// The peer could not be reached for days; a person has to look.
        Expired = "expired",
    }
}

named_enum! {
    /// A part of the engine that a start in safe mode holds until a person releases it.
    pub enum HoldPart {
        /// Accepting instances and messages.
        Intake = "intake",
        /// Deciding about studies and messages, and working on nodes.
        Workflows = "workflows",
        /// Sending results.
        Deliveries = "deliveries",
    }
}

named_enum! {
    /// Whether a token admits its owner.
    pub enum TokenState {
        /// It admits its owner.
        Valid = "valid",
        /// Its time is over.
        Expired = "expired",
        /// A person revoked it.
        Revoked = "revoked",
    }
}

named_enum! {
    /// Where a corrected result comes from (OUT-81).
    pub enum CorrectionSource {
        /// The review of the engine.
        Review = "review",
        /// A SEG of a workstation.
        Seg = "seg",
        /// An SR of a workstation.
        Sr = "sr",
        /// An ORU message of the RIS.
        Oru = "oru",
        /// An MDM message of the RIS.
        Mdm = "mdm",
    }
}

named_enum! {
    /// How the trail does not fit what was signed and counted outside of the database (AUD-03).
    pub enum TrailFault {
        /// The file with the signed batches is missing, and batches were signed.
        CheckpointsMissing = "checkpoints_missing",
        /// The last signed batch in the file was not signed by this site.
        CheckpointsAltered = "checkpoints_altered",
        /// The file with the count is missing, and the trail says that it was begun.
        CountMissing = "count_missing",
        /// The count cannot be read, or was not signed by this site.
        CountAltered = "count_altered",
        /// The count and the last signed batch are not of the same time.
        FilesDisagree = "files_disagree",
        /// Batches that were signed are missing at the end of the trail.
        BatchesMissing = "batches_missing",
        /// The last batch of the trail is another than the one that was signed.
        BatchDiffers = "batch_differs",
        /// The trail is longer than the files say: they are from an earlier time.
        FilesOlder = "files_older",
    }
}
