//! The kinds of tasks that the engine gives to people.

use crate::named_enum;

named_enum! {
    /// Why a person has to look at something.
    pub enum TaskKind {
        /// Instances arrived again with other content (DIN-22).
        InstanceVersionReceived = "instance_version_received",
        /// Instances arrived again with other content and were refused (DIN-22).
        InstanceVersionRefused = "instance_version_refused",
        /// Instances contradict their study or series and are not used (DIN-61).
        InstanceFlagged = "instance_flagged",
        /// Images and order belong to two patients (HL7-44), or results of two patients were combined
        /// (HL7-37).
        IdentityConflict = "identity_conflict",
        /// It is uncertain which order a message means, and nothing was changed.
        OrderConflict = "order_conflict",
        /// Instances arrived after the run on their study, and the workflow asks a person (DIN-52).
        LateInstances = "late_instances",
        /// The laboratory corrected or withdrew what a result rests on that no machine may replace.
        ResultCorrected = "result_corrected",
        /// An object from outside that may correct a draft cannot be read (OUT-81).
        CorrectionUnreadable = "correction_unreadable",
        /// A message has no results, only a pointer to a document elsewhere, which was not fetched.
        DocumentNotRead = "document_not_read",
        /// The condition of a workflow cannot be evaluated on a study.
        ConditionFailed = "condition_failed",
        /// A study did not become complete in time; the workflow waits on (DIN-53).
        StudyHeld = "study_held",
        /// A study did not become complete in time; the workflow does not start (DIN-53).
        StudyIncomplete = "study_incomplete",
        /// A run or node did not end within the time that its workflow promises.
        SlaMissed = "sla_missed",
        /// A node failed for good or its input was rejected.
        NodeGivenUp = "node_given_up",
        /// A delivery failed for good.
        DeliveryFailed = "delivery_failed",
        /// A destination accepted a delivery and never committed to it.
        CommitmentMissing = "commitment_missing",
        /// The result of a peer's request for storage commitment could not be reported.
        CommitmentGivenUp = "commitment_given_up",
        /// The trail does not fit what was signed and counted outside of it, and is not sealed
        /// (AUD-03).
        SealingRefused = "sealing_refused",
        /// `isocenter doctor` found damage.
        Damage = "damage",
    }
}
