//! Events of operating the engine: start and stop, configuration, access, damage.

use serde_json::Value;
use uuid::Uuid;

use crate::event::body::{details, event};
use crate::{HoldPart, PluginPin, TrailFault, WorkflowRef};

event! {
    /// The engine started.
    pub struct EngineStarted: E {
        /// Version of the engine.
        version: String,
        /// The loaded plugins: name, version, digest of each.
        plugins: Vec<PluginPin>,
        /// The active workflows: name and digest of each.
        workflows: Vec<WorkflowRef>,
        /// The model in use.
        model: Value,
    }
}

event! {
    /// The engine stopped in an orderly way.
    pub struct EngineStopped: E {}
}

event! {
    /// Parts of the engine were held by a start in safe mode.
    pub struct EngineHeld: U {
        /// The parts on hold.
        parts: Vec<HoldPart>,
    }
}

event! {
    /// A person released a part of the engine.
    pub struct EngineReleased: U {
        /// The part that works again.
        part: HoldPart,
    }
}

details! {
    /// A change in what the intake accepts.
    pub struct IntakeChange {
        /// Why not everything is accepted, if so.
        reason: Option<String>,
        /// Why not everything was accepted before, if so.
        before: Option<String>,
        /// How long the state before had lasted, in seconds.
        seconds_before: u64,
    }
}

event! {
    /// The intake accepts everything again.
    pub struct IntakeOpened(IntakeChange): E;
}

event! {
    /// The intake accepts no new associations or connections; open ones go on.
    pub struct IntakeNarrowed(IntakeChange): E;
}

event! {
    /// The intake accepts nothing.
    pub struct IntakeClosed(IntakeChange): E;
}

event! {
    /// The disk of the archive is filled beyond the warning mark.
    pub struct DiskFilling: E {
        /// How full the disk is, in percent.
        percent: u64,
        /// The warning mark of the site, in percent.
        warn: u64,
    }
}

event! {
    /// The clock jumped; due times and deadlines were moved with it.
    pub struct ClockJumped: E {
        /// By how much, in milliseconds; negative if it was set back.
        milliseconds: i64,
    }
}

details! {
    /// What became of a changed site file.
    pub struct SiteFileChange {
        /// Why it was refused; empty if it was not.
        reason: String,
    }
}

event! {
    /// A changed site file was read and is in force.
    pub struct SiteFileReloaded(SiteFileChange): U;
}

event! {
    /// A changed site file is invalid; the settings before it stay in force.
    pub struct SiteFileRefused(SiteFileChange): U;
}

event! {
    /// The plugin folder changed and was loaded again.
    pub struct PluginsReloaded: U {
        /// The loaded plugins: name, version, digest of each.
        plugins: Option<Vec<PluginPin>>,
        /// Why the plugins stay as they were, if so.
        reason: Option<String>,
    }
}

event! {
    /// Plugins are not confined, and can read every file of the engine: the site allows it.
    pub struct PluginsUnconfined: E {
        /// What the system lacks.
        reason: String,
    }
}

details! {
    /// The exchange of one model for another.
    pub struct ModelChange {
        /// The model before.
        from: Value,
        /// The model that was to take its place.
        to: Value,
        /// Why it did not; empty if it did.
        reason: String,
    }
}

event! {
    /// The model was exchanged for another.
    pub struct ModelExchanged(ModelChange): U;
}

event! {
    /// A model could not be loaded; the one before stays in use.
    pub struct ModelRefused(ModelChange): U;
}

event! {
    /// The active workflows changed and were loaded again.
    pub struct WorkflowsReloaded: U {
        /// The active workflows: name and digest of each.
        workflows: Vec<WorkflowRef>,
    }
}

details! {
    /// A version of a workflow.
    pub struct WorkflowVersion {
        /// Name of the workflow.
        workflow: String,
        /// SHA-256 of its definition, in hex; none if it was deactivated.
        digest: Option<String>,
    }
}

event! {
    /// A person activated a version of a workflow.
    pub struct WorkflowActivated(WorkflowVersion): U;
}

event! {
    /// A person deactivated a workflow: it starts no more runs.
    pub struct WorkflowDeactivated(WorkflowVersion): U;
}

event! {
    /// A person activated the version of a workflow that was active before.
    pub struct WorkflowRolledBack(WorkflowVersion): U;
}

event! {
    /// A token was created: a person may review results with it.
    pub struct TokenCreated: C {
        /// The engine's key of the token.
        token: Uuid,
        /// Name of the person.
        name: String,
        /// Role of the person.
        role: String,
    }
}

event! {
    /// A token was revoked.
    pub struct TokenRevoked: D {
        /// The engine's key of the token.
        token: Uuid,
    }
}

event! {
    /// A person searched the trail (AUD-08).
    pub struct TrailRead: R {
        /// Whether the search was for a patient, who is not named here.
        by_patient: bool,
        /// The user who was searched for.
        user: Option<String>,
        /// The result that was searched for.
        result: Option<String>,
    }
}

event! {
    /// A person exported the trail to a file.
    pub struct TrailExported: R {}
}

event! {
    /// The engine began to count the batches of the trail in a file outside of the database
    /// (AUD-03).
    pub struct TrailCountBegun: E {
        /// How many batches had been signed before.
        batches: u64,
        /// How many events had been sealed before.
        events: u64,
    }
}

event! {
    /// A person accepted that a part of the trail, or the count of it, is lost; sealing goes on
    /// (AUD-03).
    pub struct TrailLossAccepted: U {
        /// What did not fit.
        fault: TrailFault,
        /// The last batch that is still in the trail.
        kept_batch: u64,
        /// The last sealed event that is still in the trail.
        kept_events: u64,
        /// The highest number that a batch has had; it is not used again.
        counted_batches: u64,
        /// The highest number that a sealed event has had; it is not used again.
        counted_events: u64,
        /// The engine's key of the person's token.
        token: Uuid,
        /// The account that created the token.
        issued_by: String,
        /// Why the person accepts it, in their words.
        reason: String,
    }
}

event! {
    /// A check found damage that needs a person.
    pub struct DamageNoted: E {
        /// Name of the check.
        check: String,
    }
}

event! {
    /// A check found damage and repaired it.
    pub struct DamageRepaired: U {
        /// Name of the check.
        check: String,
        /// How many rows were repaired.
        count: u64,
    }
}
