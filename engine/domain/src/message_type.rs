//! The type of an HL7 v2 message.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Message code and trigger event (MSH-9.1, MSH-9.2), written `ORU^R01`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageType {
    /// Message code: `ORU`, `MDM`, `ORM`, …
    pub code: String,
    /// Trigger event: `R01`, `T02`, …
    pub trigger: String,
}

impl MessageType {
    /// The type with this message code and trigger event.
    pub fn new(code: &str, trigger: &str) -> Self {
        Self { code: code.to_owned(), trigger: trigger.to_owned() }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}^{}", self.code, self.trigger)
    }
}
