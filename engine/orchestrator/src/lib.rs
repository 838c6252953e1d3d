//! Decides what happens to a study, and when.
//!
//! In the order in which a study meets them:
//!
//! - `intake` stores what arrives, before a listener acknowledges it.
//! - `assembly` decides whether a study is complete, and which workflows start on it.
//! - `run` has the nodes of runs worked on, and applies what becomes of them.
//! - `review` applies what people decide about results.
//! - `delivery` composes reports and sends them until they are acknowledged.
//! - `commitment` answers requests for storage commitment.
//! - `corrections` imports what people corrected outside of the engine.
//! - `housekeeping` finds deadlines that passed and work whose worker is gone.
//!
//! Each is a service that owns what it uses. [`Orchestrator`] builds them and runs their workers;
//! `configuration` holds the workflows and destinations, which change while the engine runs.
//!
//! **Invariants**
//!
//! - Decisions are pure functions of rows, made in the transaction that stores what follows.
//! - Work that was in flight when an engine died is claimed again when its lease expires. Only the
//!   database remembers what is in progress.
//! - A patient conflict sends nothing that was concluded (HL7-44). Images that are only forwarded
//!   are sent.

mod assembly;
mod commitment;
mod configuration;
mod corrections;
mod delivery;
mod draft;
mod fair_queue;
mod header;
mod housekeeping;
mod in_flight;
mod intake;
mod orchestrator;
mod review;
mod run;
mod timing;

pub use configuration::{ActiveWorkflow, Destinations, LiveConfiguration, SiteDestination};
pub use intake::{AdmissionPolicy, IntakeService, IntakeStores};
pub use orchestrator::{Orchestrator, OrchestratorParts, Stores};
pub use review::{CurrentResult, ReviewDecision, ReviewService};
pub use run::{cancel_run, retry_run};
