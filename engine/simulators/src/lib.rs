//! Simulators of the systems around the engine: a modality, a PACS, a RIS, an EHR, a FHIR server.
//!
//! `cargo demo` and the tests use them. They connect through the same sockets as any other peer, and
//! the [`phantom`] they scan has known volumes.
//!
//! **Invariant:** nothing here reaches into the engine. What a simulator knows came over a wire.

mod fhir_server;
pub mod phantom;
mod received;
mod ris;

pub use fhir_server::FhirServer;
pub use received::{Ehr, Pacs, ReceivedInstance};
pub use ris::{order_message, send_order};
