//! Configuration of a PACS as a destination: the value of `dicom` below `destinations.NAME`.

use contracts::SegmentationForm;
use domain::AeTitle;
use serde::Deserialize;

use crate::client_association::Remote;
use crate::config::Timers;
use crate::storage_scu::DicomDestination;

/// A PACS that accepts reports and images.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DicomDestinationConfig {
    /// Host and port.
    pub address: String,
    /// AE title of the PACS.
    pub ae_title: AeTitle,
    /// Whether a report counts as delivered only once the PACS has confirmed storage commitment.
    #[serde(default)]
    pub commitment: bool,
    /// How the PACS accepts segmentations: `binary`, `fractional` or `labelmap`. Few viewers read
    /// label maps.
    #[serde(default)]
    pub segmentation: SegmentationForm,
}

impl DicomDestinationConfig {
    /// The destination that this configuration describes; the engine calls it as `calling`.
    pub fn open(&self, calling: AeTitle) -> DicomDestination {
        let remote = Remote {
            address: self.address.clone(),
            called: self.ae_title.clone(),
            calling,
            timers: Timers::default(),
        };
        DicomDestination::new(remote, self.commitment, self.segmentation)
    }
}
