//! The neighbours of the engine, small and real: a modality, a PACS, a RIS, an EHR and a FHIR server.
//!
//! `cargo demo` and the tests use them. They speak through the same sockets as everybody else, and
//! the [`phantom`] they scan has known volumes.
//!
//! **Invariant:** nothing here reaches into the engine. What a neighbour knows came over a wire.

mod fhir_server;
pub mod phantom;
mod received;
mod ris;

pub use fhir_server::FhirServer;
pub use received::{Ehr, Pacs, ReceivedInstance};
pub use ris::{order_message, send_order};
