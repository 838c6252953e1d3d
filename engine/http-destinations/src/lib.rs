//! Destinations that are reached over HTTP.
//!
//! - [`fhir`]: a FHIR server that accepts transactions (R4, 3.1.0.11).
//! - [`webhook`]: an HTTP endpoint that accepts bundles with a signature.
//! - `client`: the HTTP client that all of them share: its limits, and which answers another attempt
//!   could change.
//!
//! **Invariants**
//!
//! - A redirect is not followed: results go where the site file names, and nowhere else (SEC-31).
//! - Connecting, answering, and the read and the quoted part of an answer are bounded.
//! - A FHIR server has a result only once it has said so of every entry: a success with anything
//!   else goes to a person.
//! - Another attempt is made only after failures that pass: silence, too many requests, a fault of
//!   the server. Every other refusal goes to a person (OUT-73).

mod client;
pub mod fhir;
pub mod webhook;

pub use client::OpenError;
pub use fhir::{FhirConfig, FhirDestination};
pub use webhook::{WebhookConfig, WebhookDestination};
