//! Simulators of the systems around the engine: a modality, a PACS, a RIS, an EHR, a FHIR server.
//!
//! `cargo demo` and the tests use them. They connect through the same sockets as any other peer,
//! and the [`phantom`] they scan has known volumes.
//!
//! **Invariant:** nothing here reaches into the engine. What a simulator knows came over a wire.

mod ehr;
mod fhir_server;
mod inbox;
mod pacs;
mod ris;
mod workflows;

pub use ehr::Ehr;
pub use fhir_server::FhirServer;
pub use inbox::ReceivedInstance;
pub use pacs::Pacs;
pub use phantoms::cylinders as phantom;
pub use ris::{order_message, send_order};
pub use workflows::{SHORT_WAIT, copy_with_short_wait, with_short_wait};
