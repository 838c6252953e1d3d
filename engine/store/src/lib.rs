//! What the engine remembers: the trail and everything that follows from it, in PostgreSQL.
//!
//! Read [`PgStore`] first, then the operations in the order a study meets them: `intake_group`,
//! `intake`, `message`, `identity` and `merge` keep what arrives, `assembly` starts runs, `run` drives
//! them, `delivery` sends what they found, `commitment` answers for what is kept, `retention`
//! removes what is over. `sealer` closes events into signed batches, [`trail_file`] exports and
//! verifies them without a database. [`cluster`] runs a private PostgreSQL where the site has
//! none.
//!
//! **Invariants**
//!
//! - Every operation is one transaction, and the event that tells of it is part of it.
//! - Events are added through `audit.append` and never touched again.
//! - What identifies a patient is never in an event, and encrypted in `payload`.

mod activation;
mod assembly;
mod clock;
pub mod cluster;
mod commitment;
mod contract;
mod delivery;
mod destination;
mod doctor;
mod error;
mod event;
mod export;
mod group;
mod held;
mod identity;
mod intake;
mod intake_group;
mod keys;
mod known_reports;
mod merge;
mod message;
mod message_group;
mod overdue;
mod payload;
mod pg_store;
mod query;
mod retention;
mod returned;
mod review;
mod run;
mod sealer;
mod support;
mod task;
mod token;
pub mod trail_file;

pub use activation::ActivationLine;
pub use destination::DestinationLine;
pub use doctor::{Check, FiledInstance, restore_guards};
pub use export::StudyExport;
pub use held::{HeldLine, PARTS};
pub use identity::IdentityDomains;
pub use keys::{Keys, KeysError, plugin_key};
pub use merge::UnmergeError;
pub use pg_store::{OpenError, PgStore, prepare};
pub use query::{
    DeliveryLine, EventFilter, EventLine, MessageLine, RunDetail, RunLine, StudyLine, TaskLine,
    Why, WhyStudy,
};
pub use retention::{Expired, RetainedKind, RetentionTerms};
pub use returned::CorrectionLine;
pub use sealer::Sealer;
pub use token::TokenLine;
