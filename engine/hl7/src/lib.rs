//! The HL7 v2 side of the engine: receives orders, patients and laboratory results, sends reports.
//!
//! In the order a message travels:
//!
//! - [`config`]: what a site declares;
//! - [`listener`]: accepts connections and applies their limits;
//! - [`connection`]: serves one MLLP connection;
//! - [`frame`], [`batch`]: find messages in the byte stream;
//! - [`message`]: parses a message into segments, fields and components;
//! - [`receiver`]: decides whether a message is accepted;
//! - `groups`: which patient and which order each of its segments is about;
//! - [`mapping`]: maps it to its effects, with `patient`, `merging`, `document`, `observation` and
//!   `files`;
//! - [`acknowledgement`]: writes the answers.
//!
//! [`sender`] sends messages and waits for their acknowledgements; [`conformance`] writes the
//! profile.
//!
//! **Invariants**
//!
//! - A positive acknowledgement is sent only after the message is stored (HL7-11).
//! - What cannot be parsed completely is refused, never parsed in part: `hl7-parser` would stop at
//!   a blank line without an error.
//! - Messages of one connection are answered in order.

pub mod acknowledgement;
pub mod batch;
pub mod config;
pub mod conformance;
pub mod connection;
mod destination_config;
mod document;
mod files;
pub mod frame;
mod groups;
pub mod listener;
pub mod mapping;
mod merging;
pub mod message;
pub mod message_type;
mod observation;
mod order_number;
mod patient;
pub mod receiver;
mod segment_name;
pub mod sender;
mod time;

pub use config::{Config, Hl7Config};
pub use destination_config::MllpDestinationConfig;
pub use listener::Listener;
pub use message::{ErrorCode, Message, Problem};
pub use receiver::Rules;
pub use sender::{MllpDestination, MllpError};
