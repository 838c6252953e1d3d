//! Configuration of the DICOM listener: what a site declares under `dicom:`, and what the listener
//! works with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use contracts::{Live, VersionPolicy};
use domain::{AeTitle, Network};
use serde::{Deserialize, Deserializer};

/// Upper bound of all open associations (DIN-13).
pub const ASSOCIATIONS_MAX: usize = 512;

/// Upper bound of the open associations of one network address, unless the site sets another. Half
/// of all: one address, perhaps a gateway for many peers, never excludes all others.
pub const ASSOCIATIONS_PER_PEER_MAX: usize = 256;

/// Longest PDU that is received unless the site sets another, in bytes after its header.
pub const PDU_BYTES_MAX: u32 = 131_072;

/// What a site may set as the longest PDU.
pub const PDU_BYTES_MAX_RANGE: std::ops::RangeInclusive<u32> = 4096..=1_048_576;

/// The most that one association holds of a data set in memory unless the site sets another, in
/// bytes (SEC-21). Images are not held: they go to the disk as they arrive.
pub const ASSOCIATION_BYTES_MAX: u32 = 8 << 20;

/// What a site may set as the most that one association holds.
pub const ASSOCIATION_BYTES_MAX_RANGE: std::ops::RangeInclusive<u32> = 65_536..=33_554_432;

/// `dicom:` in the site file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DicomConfig {
    /// Interface and port. Beyond this machine, name the interface.
    pub listen: SocketAddr,
    /// Our own AE title.
    #[serde(default = "default_ae_title")]
    pub ae_title: AeTitle,
    /// The peers that may open associations. All others are refused.
    pub peers: Vec<PeerConfig>,
    /// Whether an instance that came before with other content is stored beside the first
    /// (`keep_first`), replaces it (`replace`) or is refused (`reject`).
    #[serde(default)]
    pub versions: VersionPolicy,
    /// Longest PDU that is received, from 4096 to 1048576 bytes.
    #[serde(default = "default_pdu_bytes_max")]
    pub pdu_bytes_max: u32,
    /// The most that one association holds of a data set in memory, from 65536 to 33554432 bytes:
    /// the longest request for storage commitment.
    #[serde(default = "default_association_bytes_max")]
    pub association_bytes_max: u32,
    /// Upper bound of the open associations of one network address.
    #[serde(default = "default_associations_per_peer")]
    pub associations_per_peer: usize,
    /// Whether private storage classes, and those of later editions of the standard, are accepted:
    /// their instances are stored and forwarded, and used by no plugin that does not know them.
    #[serde(default)]
    pub accept_unknown_storage: bool,
    /// How long to wait for what, in seconds.
    #[serde(default)]
    pub timers: Timers,
}

impl DicomConfig {
    /// The configuration of a listener at `listen` that admits no peers, with all other defaults.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            ae_title: default_ae_title(),
            peers: Vec::new(),
            versions: VersionPolicy::default(),
            pdu_bytes_max: PDU_BYTES_MAX,
            association_bytes_max: ASSOCIATION_BYTES_MAX,
            associations_per_peer: ASSOCIATIONS_PER_PEER_MAX,
            accept_unknown_storage: false,
            timers: Timers::default(),
        }
    }

    /// The first value outside its range, in words for the person who wrote the site file.
    pub fn problem(&self) -> Option<String> {
        for (name, value, range) in [
            ("pdu_bytes_max", self.pdu_bytes_max, PDU_BYTES_MAX_RANGE),
            ("association_bytes_max", self.association_bytes_max, ASSOCIATION_BYTES_MAX_RANGE),
        ] {
            if !range.contains(&value) {
                return Some(format!("dicom.{name}: from {} to {}", range.start(), range.end()));
            }
        }
        None
    }

    /// The listener of this configuration. `peers` may be replaced while it runs.
    pub fn listener(&self, peers: Arc<Live<Vec<Peer>>>) -> Config {
        Config {
            listen: self.listen,
            ae_title: self.ae_title.clone(),
            peers,
            associations_max: ASSOCIATIONS_MAX,
            associations_per_peer_max: self.associations_per_peer,
            pdu_bytes_max: self.pdu_bytes_max,
            accept_unknown_storage: self.accept_unknown_storage,
            association_bytes_max: self.association_bytes_max,
            timers: self.timers,
        }
    }
}

/// One of `dicom.peers`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// AE title of the peer.
    pub ae_title: AeTitle,
    /// Networks that it calls from, such as `10.1.2.0/24`.
    pub networks: Vec<Network>,
    /// Upper bound of its open associations, if it is to have fewer than its address.
    #[serde(default)]
    pub associations: Option<usize>,
    /// Host and port where it listens: results of storage commitment are reported there.
    #[serde(default)]
    pub address: Option<String>,
}

impl From<&PeerConfig> for Peer {
    fn from(config: &PeerConfig) -> Self {
        Self {
            ae_title: Some(config.ae_title.clone()),
            networks: config.networks.clone(),
            associations_max: config.associations,
        }
    }
}

fn default_ae_title() -> AeTitle {
    "ISOCENTER".parse().unwrap_or_else(|_| unreachable!("nine letters are an AE title"))
}

const fn default_pdu_bytes_max() -> u32 {
    PDU_BYTES_MAX
}

const fn default_association_bytes_max() -> u32 {
    ASSOCIATION_BYTES_MAX
}

const fn default_associations_per_peer() -> usize {
    ASSOCIATIONS_PER_PEER_MAX
}

/// What a DICOM listener works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interface and port.
    pub listen: SocketAddr,
    /// Our own AE title.
    pub ae_title: AeTitle,
    /// The peers that may open associations (DIN-02). All others are refused.
    pub peers: Arc<Live<Vec<Peer>>>,
    /// Upper bound of all open associations (DIN-13).
    pub associations_max: usize,
    /// Upper bound of the open associations of one network address.
    pub associations_per_peer_max: usize,
    /// Longest PDU that is received, in bytes after its header (DIN-07).
    pub pdu_bytes_max: u32,
    /// Whether storage classes that [`STORAGE`](crate::sop_class::STORAGE) lacks are accepted.
    pub accept_unknown_storage: bool,
    /// The most that one association holds of a data set in memory, in bytes (SEC-21).
    pub association_bytes_max: u32,
    /// How long to wait for what.
    pub timers: Timers,
}

/// A peer that may open associations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The AE title that it calls itself. Nothing stands for any.
    pub ae_title: Option<AeTitle>,
    /// Networks that it may call from: an AE title alone proves nothing.
    pub networks: Vec<Network>,
    /// Upper bound of its open associations, if it has one of its own (SEC-38).
    pub associations_max: Option<usize>,
}

impl Peer {
    /// Whether an association from `address` with the calling AE title `calling` is of this peer.
    pub fn matches(&self, calling: &AeTitle, address: IpAddr) -> bool {
        self.ae_title.as_ref().is_none_or(|it| it == calling)
            && self.networks.iter().any(|it| it.contains(address))
    }
}

/// How long to wait for what (DIN-15): `dicom.timers`, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// For an association request, and for the peer to close after it was refused (ARTIM).
    #[serde(deserialize_with = "seconds")]
    pub artim: Duration,
    /// For the next bytes inside a message.
    #[serde(deserialize_with = "seconds")]
    pub inactivity: Duration,
    /// For the next message.
    #[serde(deserialize_with = "seconds")]
    pub idle: Duration,
    /// For a whole message.
    #[serde(deserialize_with = "seconds")]
    pub message: Duration,
    /// Lower bound of bytes per second inside a message, once it has lasted as long as
    /// `inactivity`. No site sets it.
    #[serde(skip)]
    pub throughput_min: u64,
    /// For a response to a request of ours, and for a connection of ours.
    #[serde(deserialize_with = "seconds")]
    pub response: Duration,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            artim: Duration::from_secs(30),
            inactivity: Duration::from_mins(1),
            idle: Duration::from_mins(5),
            message: Duration::from_mins(30),
            throughput_min: 4 * 1024,
            response: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn din_15_timers_are_seconds_and_those_left_out_keep_their_default() {
        let timers: Timers = serde_json::from_str(r#"{"artim": 5, "idle": 7}"#).unwrap();
        let expected = Timers {
            artim: Duration::from_secs(5),
            idle: Duration::from_secs(7),
            ..Timers::default()
        };
        assert_eq!(timers, expected);
        assert!(serde_json::from_str::<Timers>(r#"{"throughput_min": 1}"#).is_err());
    }

    #[test]
    fn sec_21_a_budget_outside_its_range_is_a_problem() {
        let listen = "127.0.0.1:104".parse().unwrap();
        for (association_bytes_max, is_valid) in
            [(65_535, false), (65_536, true), (33_554_432, true), (33_554_433, false)]
        {
            let config = DicomConfig { association_bytes_max, ..DicomConfig::new(listen) };
            assert_eq!(config.problem().is_none(), is_valid, "{association_bytes_max}");
        }
    }

    #[test]
    fn din_07_a_longest_pdu_outside_its_range_is_a_problem() {
        let listen = "127.0.0.1:104".parse().unwrap();
        for (pdu_bytes_max, is_valid) in
            [(4095, false), (4096, true), (1_048_576, true), (1_048_577, false)]
        {
            let config = DicomConfig { pdu_bytes_max, ..DicomConfig::new(listen) };
            assert_eq!(config.problem().is_none(), is_valid, "{pdu_bytes_max}");
        }
    }
}
