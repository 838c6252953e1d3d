//! `destinations:` of the site file: the systems that results are sent to.
//!
//! A kind of destination is one variant of [`DestinationKind`]. Its configuration, and what it
//! takes and prefers, are declared in the crate of its protocol; here stands only what every
//! destination has, and the list of the kinds.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use archive::FolderDestination;
use contracts::Destination;
use dimse::DicomDestinationConfig;
use domain::AeTitle;
use hl7::MllpDestinationConfig;
use http_destinations::{FhirConfig, WebhookConfig};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// One of `destinations`.
#[derive(Debug)]
pub(crate) struct DestinationConfig {
    /// The protocol, with its own configuration.
    pub(crate) kind: DestinationKind,
    /// Whether it accepts results that nobody has signed. An EHR may show them to clinicians and
    /// patients.
    pub(crate) allow_unverified: bool,
    /// What it gets if the patient of a report turns out to be another.
    pub(crate) on_identity_change: OnIdentityChange,
    /// What becomes of further deliveries after one was refused for good.
    pub(crate) on_error: OnError,
}

/// The kinds of destination, each with its own configuration. A destination has exactly one.
#[derive(Debug)]
pub(crate) enum DestinationKind {
    /// A PACS.
    Dicom(DicomDestinationConfig),
    /// An EHR that accepts HL7 messages.
    Mllp(MllpDestinationConfig),
    /// A FHIR server.
    Fhir(FhirConfig),
    /// An HTTP endpoint that accepts signed FHIR bundles.
    Webhook(WebhookConfig),
    /// A folder, by its path.
    Folder(PathBuf),
}

/// What becomes of further deliveries after a destination refused one for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnError {
    /// They are sent all the same.
    #[default]
    Continue,
    /// They wait until a person resumes the destination (`isocenter destination resume`).
    Block,
}

/// What a destination gets if the patient of a report turns out to be another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnIdentityChange {
    /// Nothing: it learns of the merge from the source of the merge.
    #[default]
    Nothing,
    /// The report again: a new SR that refers to the old one, an ORU with status C.
    Resend,
}

/// Why a destination cannot be opened with its configuration.
type OpenFailure = Box<dyn Error + Send + Sync>;

impl DestinationKind {
    /// The keys of the kinds in the site file.
    const KEYS: &[&str] = &["dicom", "mllp", "fhir", "webhook", "folder"];

    /// Reads the configuration that stands under the key of a kind. `None` for another key.
    fn read<'de, M: MapAccess<'de>>(key: &str, map: &mut M) -> Result<Option<Self>, M::Error> {
        Ok(Some(match key {
            "dicom" => Self::Dicom(map.next_value()?),
            "mllp" => Self::Mllp(map.next_value()?),
            "fhir" => Self::Fhir(map.next_value()?),
            "webhook" => Self::Webhook(map.next_value()?),
            "folder" => Self::Folder(map.next_value()?),
            _ => return Ok(None),
        }))
    }

    /// Checks what can be checked without opening anything. `callers` are the AE titles that may
    /// call the engine.
    fn problems(&self, callers: &BTreeSet<&AeTitle>) -> Vec<String> {
        match self {
            Self::Dicom(pacs) => {
                super::no_port(&pacs.address).into_iter().chain(not_let_in(pacs, callers)).collect()
            }
            Self::Mllp(ehr) => super::no_port(&ehr.address).into_iter().collect(),
            Self::Fhir(server) => server.check().err().iter().map(ToString::to_string).collect(),
            Self::Webhook(hook) => hook.check().err().iter().map(ToString::to_string).collect(),
            Self::Folder(_) => Vec::new(),
        }
    }

    /// The destination itself. The engine calls a PACS as `calling`.
    ///
    /// # Errors
    ///
    /// Fails if a key cannot be read, or the configuration names what this program does not have.
    pub(crate) fn open(&self, calling: &AeTitle) -> Result<Arc<dyn Destination>, OpenFailure> {
        Ok(match self {
            Self::Dicom(pacs) => Arc::new(pacs.open(calling.clone())),
            Self::Mllp(ehr) => Arc::new(ehr.open()?),
            Self::Fhir(server) => Arc::new(server.open()?),
            Self::Webhook(hook) => Arc::new(hook.open()?),
            Self::Folder(folder) => Arc::new(FolderDestination::new(folder.clone())),
        })
    }
}

impl DestinationConfig {
    /// What is wrong with it beyond its form. `callers` are the AE titles that may call the engine.
    pub(super) fn problems(&self, name: &str, callers: &BTreeSet<&AeTitle>) -> Vec<String> {
        let problems = self.kind.problems(callers).into_iter();
        problems.map(|problem| format!("destination `{name}`: {problem}")).collect()
    }
}

/// A PACS that is to commit storage calls the engine back: it has to be a peer.
fn not_let_in(pacs: &DicomDestinationConfig, callers: &BTreeSet<&AeTitle>) -> Option<String> {
    let is_missing = pacs.commitment && !callers.contains(&pacs.ae_title);
    is_missing.then(|| {
        format!(
            "is to confirm storage commitment, and {} may not call us: name it under `dicom.peers`",
            pacs.ae_title
        )
    })
}

impl<'de> Deserialize<'de> for DestinationConfig {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_map(DestinationVisitor)
    }
}

/// Reads a destination: the key of one kind beside the keys that every destination has.
struct DestinationVisitor;

impl<'de> Visitor<'de> for DestinationVisitor {
    type Value = DestinationConfig;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a destination with one of {}", DestinationKind::KEYS.join(", "))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<DestinationConfig, M::Error> {
        let mut kinds = Vec::new();
        let mut allow_unverified = false;
        let mut on_identity_change = OnIdentityChange::default();
        let mut on_error = OnError::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "allow_unverified" => allow_unverified = map.next_value()?,
                "on_identity_change" => on_identity_change = map.next_value()?,
                "on_error" => on_error = map.next_value()?,
                kind => match DestinationKind::read(kind, &mut map)? {
                    Some(kind) => kinds.push(kind),
                    None => return Err(unknown_key(kind)),
                },
            }
        }
        let kind = kinds.pop().filter(|_| kinds.is_empty()).ok_or_else(|| {
            let keys = DestinationKind::KEYS.join(", ");
            de::Error::custom(format!("a destination needs exactly one of {keys}"))
        })?;
        Ok(DestinationConfig { kind, allow_unverified, on_identity_change, on_error })
    }
}

fn unknown_key<E: de::Error>(key: &str) -> E {
    let common = "allow_unverified, on_identity_change, on_error";
    let kinds = DestinationKind::KEYS.join(", ");
    E::custom(format!("unknown field `{key}`, expected one of {kinds}, {common}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DestinationConfig, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_problem(text: &str, expected: Option<&str>) {
        let pacs: AeTitle = "PACS".parse().unwrap();
        let problems = parse(text).unwrap().problems("d", &BTreeSet::from([&pacs]));
        match (problems.as_slice(), expected) {
            ([], None) => {}
            ([found], Some(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn every_kind_is_read_under_its_key() {
        let dicom = parse("dicom: { address: 'pacs:104', ae_title: PACS }").unwrap();
        assert!(matches!(dicom.kind, DestinationKind::Dicom(_)));
        assert!(!dicom.allow_unverified);
        let mllp = parse("{ mllp: { address: 'ehr:2575' }, allow_unverified: true }").unwrap();
        assert!(matches!(mllp.kind, DestinationKind::Mllp(_)));
        assert!(mllp.allow_unverified);
        let fhir = parse("{ on_error: block, fhir: { url: 'https://ehr/r4' } }").unwrap();
        assert!(matches!(fhir.kind, DestinationKind::Fhir(_)));
        assert_eq!(fhir.on_error, OnError::Block);
        let folder = parse("{ folder: /out, on_identity_change: resend }").unwrap();
        assert!(matches!(folder.kind, DestinationKind::Folder(_)));
        assert_eq!(folder.on_identity_change, OnIdentityChange::Resend);
    }

    #[test]
    fn a_destination_has_exactly_one_kind_and_no_unknown_key() {
        let none = parse("{ allow_unverified: true }").unwrap_err();
        assert!(none.contains("exactly one of dicom"), "{none}");
        let two = parse("{ folder: /out, fhir: { url: 'https://ehr/r4' } }").unwrap_err();
        assert!(two.contains("exactly one of dicom"), "{two}");
        let misspelt = parse("{ folder: /out, on_eror: block }").unwrap_err();
        assert!(misspelt.contains("on_eror"), "{misspelt}");
        let inside = parse("{ mllp: { address: 'ehr:2575', facilty: X } }").unwrap_err();
        assert!(inside.contains("facilty"), "{inside}");
    }

    #[test]
    fn din_34_a_pacs_that_commits_storage_has_to_be_let_in() {
        let committing = "dicom: { address: 'pacs:104', ae_title: OTHER, commitment: true }";
        check_problem(committing, Some("may not call us"));
        check_problem(&committing.replace("OTHER", "PACS"), None);
    }

    #[test]
    fn an_address_needs_a_port_and_a_url_a_scheme() {
        check_problem("mllp: { address: ehr }", Some("has no port"));
        check_problem("dicom: { address: pacs, ae_title: PACS }", Some("has no port"));
        check_problem("fhir: { url: ehr.example }", Some("https://"));
        check_problem("folder: /out", None);
    }

    #[test]
    fn what_it_takes_and_prefers_comes_from_its_protocol() {
        let calling: AeTitle = "ISOCENTER".parse().unwrap();
        let text = "dicom: { address: 'pacs:104', ae_title: PACS, segmentation: labelmap }";
        let pacs = parse(text).unwrap().kind.open(&calling).unwrap();
        assert_eq!(pacs.preferences().segmentation, contracts::SegmentationForm::Labelmap);
        assert!(pacs.takes(domain::OutputKind::Images) && !pacs.takes(domain::OutputKind::Oru));
        let text = "mllp: { address: 'ehr:2575', facility: HOSP, report: pdf }";
        let ehr = parse(text).unwrap().kind.open(&calling).unwrap();
        assert_eq!(ehr.preferences().facility, "HOSP");
        assert_eq!(ehr.preferences().report, contracts::ReportForm::Pdf);
        assert!(ehr.takes(domain::OutputKind::Mdm) && !ehr.takes(domain::OutputKind::Fhir));
    }
}
