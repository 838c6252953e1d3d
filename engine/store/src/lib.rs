//! What the engine remembers: the audit trail and all state derived from its events, in PostgreSQL.
//!
//! One folder per aggregate. A folder uses only those before it in this list:
//!
//! - `error`: what can go wrong inside an operation.
//! - `vault`: the keys of a site, and encrypted payloads (everything that identifies a patient).
//! - `database`: the connection pool ([`PgStore`]), notifications between processes, and
//!   [`cluster`], a private PostgreSQL for sites that have none.
//! - `trail`: appends events, seals them into signed batches ([`Sealer`]), counts these outside of
//!   the database ([`TrailFiles`]), and verifies an export without a database ([`trail_file`]).
//! - `patient`: identifiers, demographics, merges and links.
//! - `run`: decisions that start runs, the queue of nodes, tasks for people, missed deadlines.
//! - `result`: review, and corrections that come back.
//! - `intake`: instances, messages and requests for storage commitment, inserted one by one or in
//!   batches ([`IntakeStore`]).
//! - `delivery`: the queue of deliveries, what each is composed of, and how destinations fare.
//! - `admin`: active workflows, access tokens, holds.
//! - `console`: lists, explanations, exports and support counts for people.
//! - `upkeep`: retention, clock jumps, integrity checks.
//!
//! The store traits of `contracts` are implemented in the folder of their aggregate. A function
//! whose name ends in `_in_tx` takes part in the transaction of its caller.
//!
//! **Invariants**
//!
//! - Every operation is one transaction, and the event that reports it is part of it.
//! - Events are added through `audit.append` and never touched again.
//! - What identifies a patient is never in an event, and encrypted in `payload`.

mod admin;
mod console;
mod database;
mod delivery;
mod error;
mod intake;
mod patient;
mod result;
mod run;
#[cfg(test)]
mod testing;
mod trail;
mod upkeep;
mod vault;

pub use admin::activation::{ActivationLine, WorkflowActivations};
pub use admin::hold::HoldLine;
pub use admin::token::TokenLine;
pub use console::export::{InstanceToExport, StudyExport};
pub use console::lists::{
    DeliveryLine, EventFilter, EventLine, MessageLine, RunDetail, RunLine, StudyLine, TaskLine,
};
pub use console::why::{Why, WhyStudy};
pub use database::cluster;
pub use database::pg_store::{OpenError, PgStore};
pub use database::prepare::prepare;
pub use delivery::destination::DestinationLine;
pub use intake::intake_store::IntakeStore;
pub use intake::numbering::{LongAccession, Numbering};
pub use patient::identity::{Authorities, IdentityDomains};
pub use patient::unmerge::{UnmergeError, UnmergeRequestLine};
pub use result::corrections::CorrectionLine;
pub use trail::count::{TrailCount, TrailFiles};
pub use trail::fault::fault_text;
pub use trail::file as trail_file;
pub use trail::loss::AcceptedLoss;
pub use trail::sealer::Sealer;
pub use upkeep::doctor::{Check, FiledInstance, restore_guards};
pub use upkeep::retention::{Expired, FilesToRemove, RetainedKind, RetentionTerms};
pub use vault::keys::{Keys, KeysError, plugin_key};
