//! The site file, `isocenter.yaml`, as the sum of what each part of the engine declares.
//!
//! Every part owns the keys it reads, beside the code that uses them; [`Config`] only puts them
//! together, and checks what concerns two parts at once. Every key is explained at its field and
//! shown in `isocenter.example.yaml`. A site file is read once, by [`crate::installation`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use dimse::DicomConfig;
use domain::AeTitle;
use hl7::Hl7Config;
use report::Language;
use serde::Deserialize;
use store::Numbering;
use upkeep::disk::DiskMarks;
use upkeep::export::ExportConfig;
use upkeep::policy::UpkeepPolicy;
use upkeep::retention::RetentionConfig;

use crate::active_model::ModelConfig;
use crate::database::IdentityConfig;
use crate::http::HttpConfig;
use crate::telemetry::LogFormat;

mod destinations;
mod orders;

pub(crate) use destinations::{DestinationConfig, OnError, OnIdentityChange};
pub(crate) use orders::OrdersConfig;

/// Everything a site file can say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The folder for everything the engine stores.
    pub(crate) data: Option<PathBuf>,
    /// The URL of a PostgreSQL database. Without it the engine runs one of its own.
    pub(crate) database: Option<String>,
    /// The folder with workflow files.
    pub(crate) workflows: Option<PathBuf>,
    /// The folder with plugins.
    pub(crate) plugins: Option<PathBuf>,
    /// The folder with templates that replace those of the program.
    pub(crate) templates: Option<PathBuf>,
    /// Fonts for reports as PDF, in the order to look for a character in. Without any, those of the
    /// system.
    pub(crate) fonts: Vec<PathBuf>,
    /// The language of the label on everything that nobody has signed.
    pub(crate) language: Language,
    /// Device Serial Number in everything that is made here. Without it, one of the installation.
    pub(crate) device_serial: Option<String>,
    /// The DICOM listener.
    pub(crate) dicom: Option<DicomConfig>,
    /// The HL7 listener.
    pub(crate) hl7: Option<Hl7Config>,
    /// The HTTP listener: health, metrics and `/api`.
    pub(crate) http: Option<HttpConfig>,
    /// Public keys of plugin makers, in hex or as files. Plugins the site signs itself need none.
    pub(crate) plugin_keys: Vec<String>,
    /// Names of signed plugins that run in the engine's own process.
    pub(crate) inline_plugins: Vec<String>,
    /// Names of plugins whose processes serve one run after the other.
    pub(crate) reused_plugins: Vec<String>,
    /// Whether plugins run where the system cannot confine them to the images of their run.
    pub(crate) allow_unconfined_plugins: bool,
    /// The model that plugins may ask.
    pub(crate) model: Option<ModelConfig>,
    /// Who issues patient identifiers.
    pub(crate) identity: IdentityConfig,
    /// How the numbers of orders are compared.
    pub(crate) orders: OrdersConfig,
    /// Where reports go.
    pub(crate) destinations: BTreeMap<String, DestinationConfig>,
    /// How long data are retained.
    pub(crate) retention: RetentionConfig,
    /// At which usage of the disk the engine reacts.
    pub(crate) disk: DiskMarks,
    /// What `isocenter export` may hold in memory.
    pub(crate) export: ExportConfig,
    /// How the log is written.
    pub(crate) log: LogFormat,
}

impl Config {
    /// Reads a site file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems.join("; ")) }
    }

    /// Everything that is wrong beyond the form of the file.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(dicom) = &self.dicom {
            let open = dicom.peers.iter().all(|it| !it.networks.is_empty());
            problems.extend(exposure("dicom", dicom.listen, open));
            problems.extend(dicom.problem());
        }
        for peer in self.dicom.iter().flat_map(|it| &it.peers) {
            let problem = peer.address.as_deref().and_then(no_port);
            problems.extend(problem.map(|problem| format!("peer {}: {problem}", peer.ae_title)));
        }
        if let Some(hl7) = &self.hl7 {
            problems.extend(exposure("hl7", hl7.listen, !hl7.networks.is_empty()));
        }
        problems.extend(self.device_serial.as_deref().and_then(no_serial));
        problems.extend(self.model.as_ref().and_then(ModelConfig::problem));
        problems.extend(self.identity.problem());
        problems.extend(self.retention.problem());
        problems.extend(self.disk.problem());
        problems.extend(self.export.problem());
        problems.extend(self.http.as_ref().and_then(HttpConfig::problem));
        let peers = self.dicom.iter().flat_map(|dicom| &dicom.peers);
        let callers: BTreeSet<&AeTitle> = peers.map(|peer| &peer.ae_title).collect();
        let destinations = self.destinations.iter();
        problems.extend(destinations.flat_map(|(name, config)| config.problems(name, &callers)));
        problems
    }

    /// What the intake has to know of the numbers of patients and orders.
    pub(crate) fn numbering(&self) -> Numbering {
        Numbering { domains: self.identity.domains(), long_accession: self.orders.long_accession() }
    }

    /// What the monitor of the installation has to know.
    pub(crate) const fn upkeep(&self) -> UpkeepPolicy {
        UpkeepPolicy { retention: self.retention.terms(), disk: self.disk }
    }
}

/// The problem of a serial number that does not fit Device Serial Number (LO, PS3.5, 6.2).
fn no_serial(serial: &str) -> Option<String> {
    let is_text = !serial.chars().any(|it| it.is_control() || it == '\\');
    let is_one = !serial.trim().is_empty() && serial.chars().count() <= 64 && is_text;
    (!is_one).then(|| "device_serial: write 1 to 64 characters without a backslash".to_owned())
}

/// The problem of an address that is not `HOST:PORT`.
fn no_port(address: &str) -> Option<String> {
    let port = address.rsplit_once(':').filter(|it| !it.0.is_empty());
    let is_one = port.is_some_and(|it| it.1.parse::<u16>().is_ok_and(|it| it > 0));
    (!is_one).then(|| format!("`{address}` has no port: write HOST:PORT, as `pacs:104`"))
}

/// The problem of a listener that is open to more than was meant: beyond this machine, where text
/// is sent in plain, a site has to name the interface and the networks (DIN-92).
fn exposure(what: &str, listen: SocketAddr, has_networks: bool) -> Option<String> {
    if listen.ip().is_loopback() {
        return None;
    }
    if listen.ip().is_unspecified() {
        let text = "listens on every interface: name the one that is meant";
        return Some(format!("{what}.listen: {text}"));
    }
    (!has_networks).then(|| {
        format!("{what}: a listener beyond this machine needs the networks that may connect")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        match (Config::parse(text), expected) {
            (Ok(_), None) => {}
            (Err(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_documented_example_is_valid() {
        check(include_str!("../../../isocenter.example.yaml"), None);
        check("language: zh\ndevice_serial: ISO-7", None);
        check("language: xx", Some("xx"));
        check("device_serial: ''", Some("device_serial"));
        check("device_serial: 'a\\b'", Some("device_serial"));
    }

    #[test]
    fn din_92_plaintext_beyond_this_machine_has_to_be_meant() {
        let peers = "peers: [{ ae_title: CT1, networks: [10.1.0.0/16] }]";
        check(&format!("dicom: {{ listen: 10.1.0.5:104, {peers} }}"), None);
        check(&format!("dicom: {{ listen: 0.0.0.0:104, {peers} }}"), Some("every interface"));
        let peers = "peers: [{ ae_title: CT1, networks: [] }]";
        check(&format!("dicom: {{ listen: 10.1.0.5:104, {peers} }}"), Some("networks"));
        check("hl7: { listen: 10.1.0.5:2575, networks: [] }", Some("networks"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let problems = Config::parse(
            "{ disk: { warn: 96 }, retention: { images: 30d, committed_images: 7d },
               model: { name: m, pixels: [1, 2] } }",
        );
        let problems = problems.unwrap_err();
        for part in ["disk:", "retention.committed_images:", "model:"] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn an_address_needs_host_and_port() {
        assert_eq!(no_port("pacs:104"), None);
        assert_eq!(no_port("[::1]:104"), None);
        for address in ["pacs", ":104", "pacs:", "pacs:0", "pacs:70000", "pacs:x"] {
            assert!(no_port(address).is_some(), "{address}");
        }
        let peers = "peers: [{ ae_title: CT1, networks: [10.1.0.0/16], address: ct1 }]";
        check(&format!("dicom: {{ listen: 127.0.0.1:104, {peers} }}"), Some("peer CT1"));
    }

    #[test]
    fn an_empty_part_has_its_defaults() {
        let config = Config::parse("{ log: json, identity: { domains: single } }").unwrap();
        assert_eq!(config.log, LogFormat::Json);
        assert_eq!(config.upkeep().disk, DiskMarks::default());
        assert_eq!(config.upkeep().retention.images, None);
        assert!(config.dicom.is_none() && config.destinations.is_empty());
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        check("databse: postgres://x", Some("databse"));
        check("retention: { images: 30d, committed_images: 7d }", Some("for less time"));
        check("retention: { images: 30 }", Some("not a duration"));
        check("disk: { warn: 96 }", Some("none less than the one before"));
        check(
            "destinations: { pacs: { folder: /x, dicom: { address: a:1, ae_title: P } } }",
            Some("one of"),
        );
    }
}
