//! The details of every event, by what it happens to.
//!
//! To add an event: declare its type in the file of its aggregate, add its name to the list in
//! `kind.rs`, and run the tests of this crate, which then say what `EVENTS.md` lacks.

pub(super) mod commitment;
pub(super) mod delivery;
pub(super) mod instance;
pub(super) mod message;
pub(super) mod operation;
pub(super) mod patient;
pub(super) mod review;
pub(super) mod run;
pub(super) mod study;
