//! The recipient of an output: how the engine names itself to a destination, and what the destination
//! prefers.

use contracts::Preferences;

/// A destination, as messages address it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Name of the destination in the site file.
    pub destination: String,
    /// MSH-3: the sending application.
    pub sending_application: String,
    /// MSH-4: the sending facility.
    pub sending_facility: String,
    /// How the destination wants its outputs written.
    pub preferences: Preferences,
}

impl Recipient {
    /// The destination of this name, with the names under which the engine sends.
    pub fn new(destination: &str, preferences: Preferences) -> Self {
        Self {
            destination: destination.to_owned(),
            sending_application: "ISOCENTER".to_owned(),
            sending_facility: "AI".to_owned(),
            preferences,
        }
    }
}
