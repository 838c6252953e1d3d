//! The DICOM side of the engine: receives instances from modalities and archives, and sends reports
//! to them.
//!
//! As provider, in the order a message travels:
//!
//! - [`listener`]: accepts connections and applies the limits on associations;
//! - [`negotiation`]: decides on association requests (PS3.8);
//! - [`association`]: serves one association;
//! - [`message`]: assembles commands and data sets from fragments (PS3.7);
//! - `services`: one file per DIMSE service; their list drives negotiation, dispatch and
//!   conformance;
//! - `notifications`: event reports on the association of a request.
//!
//! As user:
//!
//! - `client_association`: opens associations and sends requests;
//! - `outgoing_object`: a file to be sent, and the transfer syntaxes it can be sent in;
//! - [`storage_scu`]: C-ECHO, C-STORE, and the destination for reports;
//! - `commitment_reporter`: reports results of storage commitment.
//!
//! For both: [`config`], [`sop_class`], [`presentation_context`], [`conformance`].
//!
//! **Invariants**
//!
//! - A C-STORE is answered with success only after the instance and its event would survive a loss
//!   of power. A modality deletes its copy once it has received success (DIN-20).
//! - No buffer is as long as a peer announces: instances go to the disk as they arrive.
//! - A peer that is slow or silent costs one task and its timers, and delays no other peer.

pub mod association;
mod client_association;
mod commitment_data;
mod commitment_reporter;
pub mod config;
pub mod conformance;
mod destination_config;
mod intakes;
pub mod listener;
pub mod message;
pub mod negotiation;
mod notifications;
mod outgoing_object;
mod pdu_stream;
pub mod presentation_context;
mod services;
pub mod sop_class;
pub mod storage_scu;
mod transfer_syntax;

pub use client_association::{NotAccepted, Remote, ScuError};
pub use commitment_reporter::Reporter;
pub use config::{Config, DicomConfig, Peer, PeerConfig, Timers};
pub use destination_config::DicomDestinationConfig;
pub use intakes::Intakes;
pub use listener::Listener;
pub use presentation_context::{PresentationContext, Role};
pub use storage_scu::DicomDestination;

pub use domain::Network;
