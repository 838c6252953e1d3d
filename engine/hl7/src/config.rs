//! Configuration of the HL7 listener: what a site declares under `hl7:`, and what the listener
//! works with.

use std::net::SocketAddr;
use std::sync::Arc;

use contracts::{Live, PatientAuthorities};
use domain::Network;
use encoding::hl7::charset::{CharsetError, Hl7Charset};
use serde::Deserialize;

use crate::connection::Timers;
use crate::receiver::Rules;

/// Upper bound of all open connections.
pub const CONNECTIONS_MAX: usize = 512;

/// Upper bound of the open connections of one network address, unless the site sets another. Half
/// of all: one address, perhaps a gateway for many senders, never excludes all others.
pub const CONNECTIONS_PER_PEER_MAX: usize = 256;

/// `hl7:` in the site file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hl7Config {
    /// Interface and port. Beyond this machine, name the interface.
    pub listen: SocketAddr,
    /// Networks that may connect.
    pub networks: Vec<Network>,
    /// Character set of messages whose MSH-18 is empty (table 0211).
    #[serde(default)]
    pub character_set: String,
    /// Processing ids (MSH-11) that are accepted.
    #[serde(default = "default_processing_ids")]
    pub processing_ids: Vec<String>,
    /// Processing ids (MSH-11) whose messages have an effect on patients, orders, results and
    /// workflows. Those of others are stored and have none.
    #[serde(default = "default_processing")]
    pub processing: Vec<String>,
    /// Message types that are not of the standard and are accepted all the same, such as `ZDX^Z01`.
    #[serde(default)]
    pub types: Vec<String>,
    /// Sending applications (MSH-3) that are accepted; all, if the list is empty.
    #[serde(default)]
    pub applications: Vec<String>,
    /// Upper bound of the open connections of one network address; one more waits a second for the
    /// end of another.
    #[serde(default = "default_connections_per_peer")]
    pub connections_per_peer: usize,
}

impl Hl7Config {
    /// The configuration of a listener at `listen` that admits no networks, with all other
    /// defaults.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            networks: Vec::new(),
            character_set: String::new(),
            processing_ids: default_processing_ids(),
            processing: default_processing(),
            types: Vec::new(),
            applications: Vec::new(),
            connections_per_peer: CONNECTIONS_PER_PEER_MAX,
        }
    }

    /// The listener of this configuration, at a site that compares `authorities`. `networks` may be
    /// replaced while it runs.
    ///
    /// # Errors
    ///
    /// Fails if `character_set` is not one that the engine reads.
    pub fn listener(
        &self,
        networks: Arc<Live<Vec<Network>>>,
        authorities: Arc<dyn PatientAuthorities>,
    ) -> Result<Config, CharsetError> {
        let rules = Rules {
            charset: Hl7Charset::parse(&self.character_set, Hl7Charset::Utf8)?,
            processing_ids: self.processing_ids.clone(),
            processing: self.processing.clone(),
            types: self.types.clone(),
            applications: self.applications.clone(),
            authorities,
        };
        Ok(Config {
            listen: self.listen,
            rules: Arc::new(rules),
            networks,
            connections_per_peer_max: self.connections_per_peer,
            connections_max: CONNECTIONS_MAX,
            timers: Timers::default(),
        })
    }
}

fn default_processing_ids() -> Vec<String> {
    Rules::default().processing_ids
}

fn default_processing() -> Vec<String> {
    Rules::default().processing
}

const fn default_connections_per_peer() -> usize {
    CONNECTIONS_PER_PEER_MAX
}

/// What an HL7 listener works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interface and port.
    pub listen: SocketAddr,
    /// Which messages are accepted.
    pub rules: Arc<Rules>,
    /// Networks that may connect.
    pub networks: Arc<Live<Vec<Network>>>,
    /// Upper bound of the open connections of one network address.
    pub connections_per_peer_max: usize,
    /// Upper bound of all open connections.
    pub connections_max: usize,
    /// How long to wait for what.
    pub timers: Timers,
}
