//! Configuration of an EHR as a destination: the value of `mllp` below `destinations.NAME`.

use contracts::{Preferences, ReportForm, SegmentationForm};
use encoding::hl7::charset::{CharsetError, Hl7Charset};
use serde::Deserialize;

use crate::sender::MllpDestination;

/// An EHR that accepts messages over MLLP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllpDestinationConfig {
    /// Host and port.
    pub address: String,
    /// MSH-5 of messages to it: the receiving application.
    #[serde(default)]
    pub application: String,
    /// MSH-6 of messages to it: the receiving facility.
    #[serde(default)]
    pub facility: String,
    /// MSH-18 of messages to it: its character set (table 0211).
    #[serde(default = "utf8")]
    pub character_set: String,
    /// How messages carry the report itself, beside its findings: `none`, `text` (FT) or `pdf`
    /// (ED).
    #[serde(default)]
    pub report: ReportForm,
}

fn utf8() -> String {
    "UNICODE UTF-8".to_owned()
}

impl MllpDestinationConfig {
    /// The destination that this configuration describes.
    ///
    /// # Errors
    ///
    /// Fails if the character set is not one of table 0211 that the engine writes.
    pub fn open(&self) -> Result<MllpDestination, CharsetError> {
        let charset = Hl7Charset::parse(&self.character_set, Hl7Charset::Utf8)?;
        let preferences = Preferences {
            application: self.application.clone(),
            facility: self.facility.clone(),
            character_set: self.character_set.clone(),
            report: self.report,
            segmentation: SegmentationForm::default(),
        };
        Ok(MllpDestination::new(self.address.clone(), charset).with_preferences(preferences))
    }
}
