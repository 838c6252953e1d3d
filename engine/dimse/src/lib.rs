//! The DICOM side of the engine: receives instances from modalities and archives, and sends
//! reports to them.
//!
//! Read in the order an object travels: [`listener`] opens the door, [`negotiation`] decides who
//! may come in and with what, [`association`] turns PDUs into answers, [`message`] puts their
//! fragments together, [`storage_scp`] and `commitment_scp` answer them. `conversation` opens
//! associations of our own, on which [`storage_scu`] sends and `commitment_reporter` answers.
//!
//! **Invariants**
//!
//! - A C-STORE is answered with success only after the instance and its event would survive a loss
//!   of power. A modality deletes its copy once it has heard success (DIN-20).
//! - No buffer is as long as a peer says: data sets go to the disk as they come.
//! - A peer that is slow or silent costs one task and its timers, nothing of anybody else.

pub mod association;
mod commitment_data;
mod commitment_reporter;
mod commitment_scp;
pub mod config;
pub mod conformance;
mod conversation;
mod destination_config;
pub mod listener;
pub mod message;
pub mod negotiation;
mod pdu_stream;
pub mod sop_class;
pub mod storage_scp;
pub mod storage_scu;

pub use commitment_reporter::Reporter;
pub use config::{Config, Network, Peer, Timers};
pub use conversation::{Remote, ScuError};
pub use destination_config::DicomDestinationConfig;
pub use listener::Listener;
pub use storage_scu::DicomDestination;
