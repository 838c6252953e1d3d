//! Sends bundles to a FHIR server (R4, 3.1.0.11).
//!
//! **Invariants**
//!
//! - A bundle is a transaction: the server takes all of it or nothing.
//! - What it may be asked again after is what passes: silence, too many requests, trouble of its own.
//!   Everything else is refused, and a person looks.

mod destination;

pub use destination::{FhirConfig, FhirDestination, FhirError};
