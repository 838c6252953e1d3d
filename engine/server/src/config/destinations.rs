//! `destinations:` where reports go.

use std::path::PathBuf;

use domain::AeTitle;
use report::{ReportForm, SegmentationForm};
use serde::Deserialize;

/// One of `destinations`: exactly one of `dicom`, `mllp`, `fhir` and `folder`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DestinationConfig {
    /// A PACS.
    #[serde(default)]
    pub(crate) dicom: Option<RemoteConfig>,
    /// An EHR.
    #[serde(default)]
    pub(crate) mllp: Option<MllpConfig>,
    /// A FHIR server.
    #[serde(default)]
    pub(crate) fhir: Option<FhirServerConfig>,
    /// A folder.
    #[serde(default)]
    pub(crate) folder: Option<PathBuf>,
    /// Whether it takes results that nobody has signed. Think before you say yes: an EHR may show
    /// them to clinicians and patients.
    #[serde(default)]
    pub(crate) allow_unverified: bool,
    /// What it gets if the patient of a report turns out to be another: `resend` the report anew
    /// (a new SR that refers to the old, an ORU with status C), or `nothing`: it hears of the merge
    /// itself.
    #[serde(default)]
    pub(crate) on_identity_change: OnIdentityChange,
    /// What becomes of the others if it does not take one for good: `continue`, or `block`: it gets
    /// nothing more until a person has looked (`isocenter destination resume`).
    #[serde(default)]
    pub(crate) on_error: OnError,
}

/// What becomes of the others if a destination does not take one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnError {
    #[default]
    Continue,
    Block,
}

/// What a destination gets if the patient of a report turns out to be another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnIdentityChange {
    #[default]
    Nothing,
    Resend,
}

/// A PACS.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoteConfig {
    /// Host and port.
    pub(crate) address: String,
    /// Its AE title.
    pub(crate) ae_title: AeTitle,
    /// Whether a report has arrived only once it has confirmed storage commitment.
    #[serde(default)]
    pub(crate) commitment: bool,
    /// As what it takes masks: `binary`, `fractional` or `labelmap`. Few read label maps.
    #[serde(default)]
    pub(crate) segmentation: SegmentationForm,
}

/// A FHIR server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FhirServerConfig {
    /// Its base address, `https://ehr.hospital.example/fhir`.
    pub(crate) url: String,
    /// A file with what proves there that we may send.
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
}

/// An EHR.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MllpConfig {
    /// Host and port.
    pub(crate) address: String,
    /// MSH-5 of what we send.
    #[serde(default)]
    pub(crate) application: String,
    /// MSH-6 of what we send.
    #[serde(default)]
    pub(crate) facility: String,
    /// Its character set (table 0211).
    #[serde(default = "utf8")]
    pub(crate) character_set: String,
    /// As what it wants the report itself, beside its findings: `none`, `text` (FT) or `pdf` (ED).
    #[serde(default)]
    pub(crate) report: ReportForm,
}

fn utf8() -> String {
    "UNICODE UTF-8".to_owned()
}

impl DestinationConfig {
    /// What is wrong with it beyond its form.
    pub(super) fn problem(&self, name: &str) -> Option<String> {
        let kinds =
            [self.dicom.is_some(), self.mllp.is_some(), self.fhir.is_some(), self.folder.is_some()];
        if kinds.iter().filter(|it| **it).count() != 1 {
            return Some(format!("destination `{name}` needs one of dicom, mllp, fhir and folder"));
        }
        let url = &self.fhir.as_ref()?.url;
        let is_address = url.starts_with("https://") || url.starts_with("http://");
        (!is_address)
            .then(|| format!("destination `{name}`: fhir.url begins with https:// or http://"))
    }
}
