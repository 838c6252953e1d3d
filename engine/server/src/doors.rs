//! The doors: where the engine listens, and to whom it opens.

use std::sync::Arc;

use contracts::{Intake, Live};
use dimse::{Network, Peer, Timers};
use domain::AeTitle;
use encoding::hl7_charset::Hl7Charset;
use orchestrator::{IntakeService, ReviewDesk};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::args::ServeFlags;
use crate::config::{Config, DicomConfig, Hl7Config, PER_PEER_MAX, PeerConfig};
use crate::http;
use crate::output::Failure;
use crate::site::own_ae_title;

/// Who may come in. The site file may say otherwise while the engine runs.
#[derive(Clone, Default)]
pub(crate) struct Guests {
    peers: Arc<Live<Vec<Peer>>>,
    networks: Arc<Live<Vec<Network>>>,
}

impl Guests {
    /// Takes over what a site file says.
    pub(crate) fn set(&self, config: &Config, flags: &ServeFlags) {
        let known = config.dicom.iter().flat_map(|it| it.peers.clone());
        let mut peers: Vec<Peer> = known.map(peer).collect();
        let mut networks = config.hl7.as_ref().map(|it| it.networks.clone()).unwrap_or_default();
        if flags.trust_loopback {
            let here = Network::loopback();
            peers.push(Peer { ae_title: None, networks: here, associations_max: None });
            networks.extend(Network::loopback());
        }
        self.peers.set(peers);
        self.networks.set(networks);
    }
}

fn peer(said: PeerConfig) -> Peer {
    let PeerConfig { ae_title, networks, associations, .. } = said;
    Peer { ae_title: Some(ae_title), networks, associations_max: associations }
}

/// Where the doors are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors {
    pub(crate) dicom: Option<String>,
    pub(crate) mllp: Option<String>,
    pub(crate) http: Option<String>,
}

pub(crate) async fn open_doors(
    config: &Config,
    flags: &ServeFlags,
    guests: &Guests,
    intake: &Arc<IntakeService>,
    closed: &watch::Receiver<bool>,
    (metrics, desk): (metrics_exporter_prometheus::PrometheusHandle, ReviewDesk),
    tasks: &mut JoinSet<()>,
) -> Result<Doors, Failure> {
    let mut doors = Doors::default();
    let shared: Arc<dyn Intake> = Arc::<IntakeService>::clone(intake);
    let cannot = |what: &str, error: &std::io::Error| {
        Failure::from_error(&format!("cannot listen for {what}"), error)
    };
    if let Some(config) = dicom_config(config.dicom.as_ref(), flags, guests, own_ae_title(config)?)
    {
        let listener = dimse::Listener::bind(config, Arc::clone(&shared)).await;
        let listener = listener.map_err(|error| cannot("DICOM", &error))?;
        doors.dicom = listener.address().ok().map(|it| it.to_string());
        tasks.spawn(listener.listen(closed.clone()));
    }
    if let Some(config) = hl7_config(config.hl7.as_ref(), flags, guests)? {
        let listener = hl7::Listener::bind(config, Arc::clone(&shared)).await;
        let listener = listener.map_err(|error| cannot("HL7", &error))?;
        doors.mllp = listener.address().ok().map(|it| it.to_string());
        tasks.spawn(listener.listen(closed.clone()));
    }
    if let Some(address) = flags.http.or_else(|| config.http.as_ref().map(|it| it.listen)) {
        let listener = TcpListener::bind(address).await.map_err(|error| cannot("HTTP", &error))?;
        doors.http = listener.local_addr().ok().map(|it| it.to_string());
        let intake = Arc::clone(intake);
        tasks.spawn(async move {
            if let Err(error) = http::serve(listener, intake, metrics, desk).await {
                error!(%error, "health and metrics are no longer answered");
            }
        });
    }
    Ok(doors)
}

fn dicom_config(
    site: Option<&DicomConfig>,
    flags: &ServeFlags,
    guests: &Guests,
    ae_title: AeTitle,
) -> Option<dimse::Config> {
    Some(dimse::Config {
        listen: flags.dicom.or_else(|| site.map(|it| it.listen))?,
        ae_title,
        peers: Arc::clone(&guests.peers),
        associations_max: 512,
        associations_per_peer_max: site.map_or(PER_PEER_MAX, |it| it.associations_per_peer),
        pdu_bytes_max: site.map_or(131_072, |it| it.pdu_bytes_max),
        timers: site.map_or_else(Timers::default, |it| it.timers.timers()),
    })
}

fn hl7_config(
    site: Option<&Hl7Config>,
    flags: &ServeFlags,
    guests: &Guests,
) -> Result<Option<hl7::Config>, Failure> {
    let Some(listen) = flags.mllp.or_else(|| site.map(|it| it.listen)) else { return Ok(None) };
    let mut rules = hl7::Rules::default();
    if let Some(site) = site {
        rules.charset = Hl7Charset::parse(&site.character_set, Hl7Charset::Utf8)
            .map_err(|error| Failure::from_error("hl7.character_set", &error))?;
        rules.processing_ids.clone_from(&site.processing_ids);
        rules.types.clone_from(&site.types);
        rules.applications.clone_from(&site.applications);
    }
    let networks = Arc::clone(&guests.networks);
    let senders = hl7::Sender(Arc::new(move |it| networks.get().iter().any(|n| n.contains(it))));
    Ok(Some(hl7::Config {
        listen,
        rules: Arc::new(rules),
        senders,
        connections_per_peer_max: site.map_or(PER_PEER_MAX, |it| it.connections_per_peer),
        connections_max: 512,
        timers: hl7::connection::Timers::default(),
    }))
}
