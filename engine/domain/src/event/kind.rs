//! The list of event kinds: every name that can stand in the trail, once.
//!
//! The names are stored for as long as the trail is, and people search for them: a name is never
//! changed or used again for something else. The list is in the order of `EVENTS.md`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Hands the list of kinds to a macro: the file of the catalogue with the type of each kind's
/// details, and the name that the trail stores.
macro_rules! with_kinds {
    ($macro:ident) => {
        $macro! {
            instance {
                AssociationRefused = "association_refused",
                AssociationEndedEarly = "association_ended_early",
                InstanceReceived = "instance_received",
                DuplicateReceived = "duplicate_received",
                InstanceVersionReceived = "instance_version_received",
                InstanceVersionRefused = "instance_version_refused",
                InstanceFlagged = "instance_flagged",
                InstanceRefused = "instance_refused",
            }
            commitment {
                CommitmentAsked = "commitment_asked",
                CommitmentAskedAgain = "commitment_asked_again",
                CommitmentChecked = "commitment_checked",
                CommitmentReported = "commitment_reported",
                CommitmentPostponed = "commitment_postponed",
                CommitmentGivenUp = "commitment_given_up",
                CommitmentAnswered = "commitment_answered",
            }
            message {
                MessageReceived = "message_received",
                MessageRefused = "message_refused",
                MessageRepeated = "message_repeated",
                MessageWithoutEffect = "message_without_effect",
                MessageUnreadable = "message_unreadable",
                BatchIncomplete = "batch_incomplete",
                OrderReceived = "order_received",
                OrderCancelled = "order_cancelled",
                OrderConflicting = "order_conflicting",
            }
            patient {
                PatientAdded = "patient_added",
                PatientUpdated = "patient_updated",
                PatientsMerged = "patients_merged",
                PatientIdentifierChanged = "patient_identifier_changed",
                PatientMoved = "patient_moved",
                PatientsLinked = "patients_linked",
                PatientsUnlinked = "patients_unlinked",
                AccountMoved = "account_moved",
                VisitMoved = "visit_moved",
                AccountRenumbered = "account_renumbered",
                VisitRenumbered = "visit_renumbered",
                UnmergeAsked = "unmerge_asked",
                PatientsUnmerged = "patients_unmerged",
                ResultsSeparated = "results_separated",
            }
            study {
                WorkflowNotStarted = "workflow_not_started",
                StudyExported = "study_exported",
                ImagesRemoved = "images_removed",
                MessageRemoved = "message_removed",
                ResultsRemoved = "results_removed",
            }
            run {
                RunStarted = "run_started",
                RunCompleted = "run_completed",
                RunFailed = "run_failed",
                RunCancelled = "run_cancelled",
                ResultSuperseded = "result_superseded",
                RunCancelAsked = "run_cancel_asked",
                RunRetryAsked = "run_retry_asked",
                NodeStarted = "node_started",
                NodeSucceeded = "node_succeeded",
                NodeOutputStored = "node_output_stored",
                NodeFailed = "node_failed",
                NodeGivenUp = "node_given_up",
                OtherPatientOnPages = "other_patient_on_pages",
                NodeSkipped = "node_skipped",
                NodeCancelled = "node_cancelled",
                SlaMissed = "sla_missed",
            }
            review {
                ReviewRequested = "review_requested",
                ReviewRead = "review_read",
                ReviewClaimed = "review_claimed",
                ReviewReleased = "review_released",
                ResultEdited = "result_edited",
                ResultSigned = "result_signed",
                ResultAmended = "result_amended",
                ResultRejected = "result_rejected",
                ResultWithdrawn = "result_withdrawn",
                CorrectionMatched = "correction_matched",
                CorrectionUnreadable = "correction_unreadable",
                CorrectionsRead = "corrections_read",
                TaskOpened = "task_opened",
                TaskDecided = "task_decided",
            }
            delivery {
                DeliveryQueued = "delivery_queued",
                DeliveryBlocked = "delivery_blocked",
                DeliveryStarted = "delivery_started",
                ReportComposed = "report_composed",
                Delivered = "delivered",
                DeliveryPromised = "delivery_promised",
                DeliveryPostponed = "delivery_postponed",
                DeliveryFailed = "delivery_failed",
                DeliveryResent = "delivery_resent",
                IdentityChangedAfterDelivery = "identity_changed_after_delivery",
                OrderLinkedAfterDelivery = "order_linked_after_delivery",
                CorrectionQueued = "correction_queued",
                DeliveryLeftAsItWas = "delivery_left_as_it_was",
                DestinationPaused = "destination_paused",
                DestinationResumed = "destination_resumed",
                DestinationRests = "destination_rests",
                DestinationBack = "destination_back",
            }
            operation {
                EngineStarted = "engine_started",
                EngineStopped = "engine_stopped",
                EngineHeld = "engine_held",
                EngineReleased = "engine_released",
                IntakeOpened = "intake_opened",
                IntakeNarrowed = "intake_narrowed",
                IntakeClosed = "intake_closed",
                DiskFilling = "disk_filling",
                ClockJumped = "clock_jumped",
                SiteFileReloaded = "site_file_reloaded",
                SiteFileRefused = "site_file_refused",
                PluginsReloaded = "plugins_reloaded",
                PluginsUnconfined = "plugins_unconfined",
                ModelExchanged = "model_exchanged",
                ModelRefused = "model_refused",
                WorkflowsReloaded = "workflows_reloaded",
                WorkflowActivated = "workflow_activated",
                WorkflowDeactivated = "workflow_deactivated",
                WorkflowRolledBack = "workflow_rolled_back",
                TokenCreated = "token_created",
                TokenRevoked = "token_revoked",
                TrailRead = "trail_read",
                TrailExported = "trail_exported",
                TrailCountBegun = "trail_count_begun",
                TrailLossAccepted = "trail_loss_accepted",
                DamageNoted = "damage_noted",
                DamageRepaired = "damage_repaired",
            }
        }
    };
}

/// Declares [`EventKind`].
macro_rules! declare {
    ($($module:ident { $($variant:ident = $name:literal,)+ })+) => {
        /// A kind of event. Each has the type of the same name in [`domain::event`](super).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind {
            $($(
                #[doc = concat!("`", $name, "`: [details](super::", stringify!($variant), ").")]
                $variant,
            )+)+
        }

        impl EventKind {
            /// Every kind, grouped by what it happens to.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)+)+];

            /// The name of the kind as the trail stores it.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$variant => $name,)+)+
                }
            }

            /// The kind of a stored name; `None` if no kind has this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($($name => Some(Self::$variant),)+)+
                    _ => None,
                }
            }
        }
    };
}

with_kinds!(declare);

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom(format!("`{name}` is no kind of event"));
        Self::parse(&name).ok_or_else(unknown)
    }
}

pub(super) use with_kinds;
