//! The site file, `isocenter.yaml`, as the sum of what each part of the engine declares.
//!
//! Every part owns the keys it reads, beside the code that uses them; [`Config`] only puts them
//! together, and checks what concerns two parts at once. Every key is explained at its field and
//! shown in `isocenter.example.yaml`. A site file is read once, by [`crate::installation`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use contracts::VersionPolicy;
use dimse::Network;
use domain::AeTitle;
use serde::Deserialize;
use upkeep::disk::DiskMarks;
use upkeep::policy::UpkeepPolicy;
use upkeep::retention::RetentionConfig;

use crate::active_model::ModelConfig;
use crate::database::IdentityConfig;
use crate::http::HttpConfig;
use crate::telemetry::LogFormat;

mod destinations;

pub(crate) use destinations::{DestinationConfig, OnError, OnIdentityChange};

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
    /// The model that plugins may ask.
    pub(crate) model: Option<ModelConfig>,
    /// Who issues patient identifiers.
    pub(crate) identity: IdentityConfig,
    /// Where reports go.
    pub(crate) destinations: BTreeMap<String, DestinationConfig>,
    /// How long data are retained.
    pub(crate) retention: RetentionConfig,
    /// At which usage of the disk the engine reacts.
    pub(crate) disk: DiskMarks,
    /// How the log is written.
    pub(crate) log: LogFormat,
}

/// `dicom:`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DicomConfig {
    /// Interface and port. Beyond this machine, name the interface.
    pub(crate) listen: SocketAddr,
    /// Our own AE title.
    #[serde(default = "own_ae_title")]
    pub(crate) ae_title: AeTitle,
    /// Who may come in. Nobody else may.
    pub(crate) peers: Vec<PeerConfig>,
    /// What becomes of an instance that came before with other content: `keep_first`, `replace` or
    /// `reject`.
    #[serde(default)]
    pub(crate) versions: VersionPolicy,
    /// Longest PDU we ask for, from 4096 to 1048576 bytes.
    #[serde(default = "pdu_bytes_max")]
    pub(crate) pdu_bytes_max: u32,
    /// Most associations of one address at once.
    #[serde(default = "per_peer_max")]
    pub(crate) associations_per_peer: usize,
    /// How long to wait for what, in seconds.
    #[serde(default)]
    pub(crate) timers: TimersConfig,
}

/// `dicom.timers`, in seconds (DIN-15).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimersConfig {
    /// For an association request, and for the peer to close after we refused it: 30.
    pub(crate) artim: Option<u64>,
    /// For the next bytes inside of a message: 60.
    pub(crate) inactivity: Option<u64>,
    /// For the next message: 300.
    pub(crate) idle: Option<u64>,
    /// For a whole message: 1800.
    pub(crate) message: Option<u64>,
    /// For an answer to us: 30.
    pub(crate) response: Option<u64>,
}

impl TimersConfig {
    pub(crate) fn timers(self) -> dimse::Timers {
        let usual = dimse::Timers::default();
        let or = |said: Option<u64>, usual| said.map_or(usual, std::time::Duration::from_secs);
        dimse::Timers {
            artim: or(self.artim, usual.artim),
            inactivity: or(self.inactivity, usual.inactivity),
            idle: or(self.idle, usual.idle),
            message: or(self.message, usual.message),
            response: or(self.response, usual.response),
            ..usual
        }
    }
}

const fn pdu_bytes_max() -> u32 {
    131_072
}

/// Half of all: one address, perhaps a gateway before many, never keeps all others out.
pub(crate) const PER_PEER_MAX: usize = 256;

const fn per_peer_max() -> usize {
    PER_PEER_MAX
}

fn own_ae_title() -> AeTitle {
    "ISOCENTER".parse().unwrap_or_else(|_| unreachable!("nine letters are an AE title"))
}

/// One of `dicom.peers`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerConfig {
    /// Its AE title.
    pub(crate) ae_title: AeTitle,
    /// Networks it calls from, such as `10.1.2.0/24`.
    pub(crate) networks: Vec<Network>,
    /// Most associations of it at once, if it is to have fewer than its address.
    #[serde(default)]
    pub(crate) associations: Option<usize>,
    /// Host and port where it listens: storage commitment is answered there.
    #[serde(default)]
    pub(crate) address: Option<String>,
}

/// `hl7:`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hl7Config {
    /// Interface and port. Beyond this machine, name the interface.
    pub(crate) listen: SocketAddr,
    /// Networks that may connect.
    pub(crate) networks: Vec<Network>,
    /// Character set of messages that name none (table 0211).
    #[serde(default)]
    pub(crate) character_set: String,
    /// Processing ids (MSH-11) that are taken.
    #[serde(default = "processing_ids")]
    pub(crate) processing_ids: Vec<String>,
    /// Types that are no types of the standard and are taken all the same, as `ZDX^Z01`.
    #[serde(default)]
    pub(crate) types: Vec<String>,
    /// Sending applications (MSH-3) that are taken. All, if it is left out.
    #[serde(default)]
    pub(crate) applications: Vec<String>,
    /// Most connections of one address at once; one more waits a second for the end of another.
    #[serde(default = "per_peer_max")]
    pub(crate) connections_per_peer: usize,
}

fn processing_ids() -> Vec<String> {
    hl7::Rules::default().processing_ids
}

impl Config {
    /// Reads a site file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems.join("; ")) }
    }

    /// What is wrong with it beyond its form. All of it.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(dicom) = &self.dicom {
            let open = dicom.peers.iter().all(|it| !it.networks.is_empty());
            problems.extend(exposure("dicom", dicom.listen, open));
            if !(4096..=1_048_576).contains(&dicom.pdu_bytes_max) {
                problems.push("dicom.pdu_bytes_max: from 4096 to 1048576".to_owned());
            }
        }
        for peer in self.dicom.iter().flat_map(|it| &it.peers) {
            let problem = peer.address.as_deref().and_then(no_port);
            problems.extend(problem.map(|problem| format!("peer {}: {problem}", peer.ae_title)));
        }
        if let Some(hl7) = &self.hl7 {
            problems.extend(exposure("hl7", hl7.listen, !hl7.networks.is_empty()));
        }
        problems.extend(self.model.as_ref().and_then(ModelConfig::problem));
        problems.extend(self.retention.problem());
        problems.extend(self.disk.problem());
        let peers = self.dicom.iter().flat_map(|dicom| &dicom.peers);
        let callers: BTreeSet<&AeTitle> = peers.map(|peer| &peer.ae_title).collect();
        let destinations = self.destinations.iter();
        problems.extend(destinations.flat_map(|(name, config)| config.problems(name, &callers)));
        problems
    }

    /// What the housekeeping has to know.
    pub(crate) const fn upkeep(&self) -> UpkeepPolicy {
        UpkeepPolicy { retention: self.retention.terms(), disk: self.disk }
    }
}

/// The folder of this program.
pub(crate) fn own_folder() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

/// An address that cannot be connected to.
fn no_port(address: &str) -> Option<String> {
    let port = address.rsplit_once(':').filter(|it| !it.0.is_empty());
    let is_one = port.is_some_and(|it| it.1.parse::<u16>().is_ok_and(|it| it > 0));
    (!is_one).then(|| format!("`{address}` has no port: write HOST:PORT, as `pacs:104`"))
}

/// Plaintext beyond this machine has to be meant: an interface by name, and networks (DIN-92).
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
