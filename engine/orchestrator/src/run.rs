//! Runs: one workflow at work on one study or message.
//!
//! - [`worker`] claims nodes and has plugins work on them.
//! - [`control`] applies events to a run: a node ended, the run was cancelled or is retried.
//! - [`step`] decides, purely, which rows and events follow from an event.
//! - [`node_input`] builds the input of a node from rows, and [`image_facts`] adds what headers
//!   state.
//! - [`page_patient`] compares whom pages name with whom they are filed under.

mod control;
mod image_facts;
mod node_input;
mod page_patient;
pub(crate) mod step;
mod worker;

pub(crate) use control::RunControl;
pub use control::{cancel_run, retry_run};
pub(crate) use worker::RunWorker;
