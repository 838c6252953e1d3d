//! Networks: ranges of addresses from which peers may connect.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Addresses that share their first bits, such as `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a network such as `10.1.0.0/16` or `::1/128`")]
pub struct InvalidNetwork {
    text: String,
}

impl Network {
    /// The loopback networks, IPv4 and IPv6: all addresses of this machine itself.
    pub fn loopback() -> Vec<Self> {
        let v4 = Self { address: IpAddr::from([127, 0, 0, 0]), bits: 8 };
        let v6 = Self { address: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), bits: 128 };
        vec![v4, v6]
    }

    /// Whether `address` belongs to the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                self.prefix(u32::from(own).into(), 32) == self.prefix(u32::from(other).into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                self.prefix(own.into(), 128) == self.prefix(other.into(), 128)
            }
            _ => false,
        }
    }

    /// The leading bits of an address of `width` bits.
    fn prefix(&self, address: u128, width: u32) -> u128 {
        address.checked_shr(width - u32::from(self.bits)).unwrap_or_default()
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
