//! The HL7 v2 side of the engine: takes orders, patients and laboratory results, and sends reports.
//!
//! Read in the order a message travels: [`listener`] opens the door, [`connection`] serves one
//! peer, [`frame`] finds messages in the stream, [`message`] takes them apart, [`mapping`] says
//! what they mean (`merging` and `document` with it), [`receiver`] what to answer. [`sender`] walks the other way.
//!
//! **Invariants**
//!
//! - A positive acknowledgement is sent only after the message is kept (HL7-11).
//! - What cannot be read whole is refused, never read in part: `hl7-parser` would stop at a blank
//!   line and say nothing.
//! - Messages of one connection are answered in order.

pub mod acknowledgement;
pub mod batch;
pub mod conformance;
pub mod connection;
mod destination_config;
mod document;
pub mod frame;
pub mod listener;
pub mod mapping;
mod merging;
pub mod message;
pub mod message_type;
pub mod receiver;
pub mod sender;

pub use destination_config::MllpDestinationConfig;
pub use listener::{Config, Listener, Sender};
pub use message::{Message, Problem};
pub use receiver::Rules;
pub use sender::{MllpDestination, MllpError};
