//! How the listener behaves: who may come in, how many at once, how long to wait for what.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use contracts::Live;
use domain::AeTitle;
use serde::{Deserialize, Serialize};

/// How the DICOM listener behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Our own name.
    pub ae_title: AeTitle,
    /// Who may come in (DIN-02). Nobody else may.
    pub peers: Arc<Live<Vec<Peer>>>,
    /// Most associations at once (DIN-13).
    pub associations_max: usize,
    /// Most associations of one address at once.
    pub associations_per_peer_max: usize,
    /// Longest PDU we ask for, in bytes after its header (DIN-07).
    pub pdu_bytes_max: u32,
    /// How long to wait for what.
    pub timers: Timers,
}

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name it calls itself. Nothing stands for any name.
    pub ae_title: Option<AeTitle>,
    /// Where it may call from. A name alone proves nothing.
    pub networks: Vec<Network>,
    /// Most associations of it at once, if it has a limit of its own (SEC-38).
    pub associations_max: Option<usize>,
}

impl Peer {
    /// Whether an association from `address` as `calling` is this peer's.
    pub fn matches(&self, calling: &AeTitle, address: IpAddr) -> bool {
        self.ae_title.as_ref().is_none_or(|it| it == calling)
            && self.networks.iter().any(|it| it.contains(address))
    }
}

/// Addresses that share their first bits, such as `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a network such as `10.1.0.0/16` or `::1/128`")]
pub struct InvalidNetwork {
    text: String,
}

impl Network {
    /// All addresses of this machine itself.
    pub fn loopback() -> Vec<Self> {
        let v4 = Self { address: IpAddr::from([127, 0, 0, 0]), bits: 8 };
        let v6 = Self { address: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), bits: 128 };
        vec![v4, v6]
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shifted = |value: u128, width: u32| {
            value.checked_shr(width - u32::from(self.bits)).unwrap_or_default()
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                shifted(u32::from(a).into(), 32) == shifted(u32::from(b).into(), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => shifted(a.into(), 128) == shifted(b.into(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidNetwork { text: text.to_owned() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |it| it.parse().map_err(|_| invalid()))?;
        if bits > width { Err(invalid()) } else { Ok(Self { address, bits }) }
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        format!("{}/{}", network.address, network.bits)
    }
}

/// How long to wait for what (DIN-15).
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// For an association request, and for the peer to close after we refused it (ARTIM).
    pub artim: Duration,
    /// For the next bytes inside of a message.
    pub inactivity: Duration,
    /// For the next message.
    pub idle: Duration,
    /// For a whole message.
    pub message: Duration,
    /// Fewest bytes per second inside of a message, once it has lasted as long as `inactivity`.
    pub throughput_min: u64,
    /// For an answer to us, and for a connection of ours.
    pub response: Duration,
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

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let network: Network = network.parse().unwrap();
        assert!(inside.iter().all(|it| network.contains(it.parse().unwrap())));
        assert!(!outside.iter().any(|it| network.contains(it.parse().unwrap())));
    }

    #[test]
    fn din_02_a_network_holds_its_addresses_and_no_others() {
        check("10.1.0.0/16", &["10.1.255.3", "::ffff:10.1.2.3"], &["10.2.0.1", "::1"]);
        check("192.168.1.7", &["192.168.1.7"], &["192.168.1.8"]);
        check("0.0.0.0/0", &["8.8.8.8"], &["::1"]);
        check("fd00::/8", &["fd12::1"], &["fe80::1", "10.0.0.1"]);
        assert!("10.1.0.0/33".parse::<Network>().is_err());
        assert!("*".parse::<Network>().is_err());
    }
}
