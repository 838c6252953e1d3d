//! FHIR R4: the transaction bundle of a result.
//!
//! - `bundle`: the resources and their identifiers.
//! - `validation`: reads every bundle back before it is sent.

pub(crate) mod bundle;
pub(crate) mod validation;
