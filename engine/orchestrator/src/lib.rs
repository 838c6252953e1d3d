//! Decides what happens to a study, and when.
//!
//! Read in the order a study meets it: [`intake`] keeps what arrives, [`assembly`] decides
//! which workflows take a study and when, `completion` whether it is complete, [`drive`] has
//! their nodes worked on and `step` says what each outcome changes, [`review`] takes in what people
//! decide, `corrections` what comes back from
//! outside, [`delivery`] composes and sends, `commitment` answers for what is kept. [`Orchestrator`]
//! ties them, and keeps them going.
//!
//! **Invariants**
//!
//! - Decisions are pure functions of rows, made in the transaction that writes what follows.
//! - What was begun and not ended when the engine died is taken up again when its lease runs out;
//!   nothing but the database remembers what is going on.
//! - A patient conflict sends nothing that was concluded (HL7-44); images that are only passed on go.

pub mod assembly;
mod commitment;
mod completion;
mod content;
mod corrections;
pub mod delivery;
pub mod drive;
mod facts;
mod in_hand;
mod input;
pub mod intake;
mod keep_going;
mod orchestrator;
mod record;
pub mod review;
mod step;
mod turns;

pub use drive::{cancel_run, retry_run};
pub use in_hand::InHand;
pub use intake::{IntakeService, Taking};
pub use keep_going::keep_going;
pub use orchestrator::{ActiveWorkflow, Destinations, Orchestrator, SiteDestination};
pub use review::{Current, Decision, ReviewDesk};
