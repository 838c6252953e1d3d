//! The listeners: where the engine listens, and to whom it opens.

use std::sync::Arc;

use contracts::{EventSink, Live, MessageIntake};
use dimse::{Network, Peer, Timers};
use domain::AeTitle;
use encoding::hl7_charset::Hl7Charset;
use orchestrator::IntakeService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::config::{Config, DicomConfig, Hl7Config, PER_PEER_MAX, PeerConfig};
use crate::http::{self, HttpServices};
use crate::output::Failure;
use crate::site::{SiteArgs, own_ae_title};

/// The DICOM peers and the HL7 networks that are accepted. A changed site file replaces them while
/// the engine runs.
#[derive(Clone, Default)]
pub(crate) struct AllowedSenders {
    peers: Arc<Live<Vec<Peer>>>,
    networks: Arc<Live<Vec<Network>>>,
}

impl AllowedSenders {
    /// Replaces them by those of a site file, and with `--trust-loopback` by everybody on this
    /// machine, too.
    pub(crate) fn set(&self, config: &Config, arguments: &SiteArgs) {
        let mut peers: Vec<Peer> =
            config.dicom.iter().flat_map(|it| it.peers.clone()).map(peer).collect();
        let mut networks = config.hl7.as_ref().map(|it| it.networks.clone()).unwrap_or_default();
        if arguments.trust_loopback {
            let networks_here = Network::loopback();
            peers.push(Peer { ae_title: None, networks: networks_here, associations_max: None });
            networks.extend(Network::loopback());
        }
        self.peers.set(peers);
        self.networks.set(networks);
    }
}

fn peer(config: PeerConfig) -> Peer {
    let PeerConfig { ae_title, networks, associations, .. } = config;
    Peer { ae_title: Some(ae_title), networks, associations_max: associations }
}

/// Where the engine listens: host and port of each listener that is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerAddresses {
    pub(crate) dicom: Option<String>,
    pub(crate) mllp: Option<String>,
    pub(crate) http: Option<String>,
}

/// What the listeners are opened from.
pub(crate) struct Listeners<'a> {
    pub(crate) config: &'a Config,
    pub(crate) arguments: &'a SiteArgs,
    /// Turns true when they have to close.
    pub(crate) closed: &'a watch::Receiver<bool>,
}

impl Listeners<'_> {
    /// Opens every listener that site file and command line name, and serves each in a task.
    pub(crate) async fn open(
        &self,
        senders: &AllowedSenders,
        services: HttpServices,
        tasks: &mut JoinSet<()>,
    ) -> Result<ListenerAddresses, Failure> {
        let dicom = self.open_dicom(senders, &services.intake, tasks).await?;
        let mllp = self.open_hl7(senders, &services.intake, tasks).await?;
        let http = self.open_http(services, tasks).await?;
        Ok(ListenerAddresses { dicom, mllp, http })
    }

    async fn open_dicom(
        &self,
        senders: &AllowedSenders,
        intake: &Arc<IntakeService>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<String>, Failure> {
        let ae_title = own_ae_title(self.config)?;
        let site = self.config.dicom.as_ref();
        let Some(config) = dicom_config(site, self.arguments, senders, ae_title) else {
            return Ok(None);
        };
        let listener = dimse::Listener::bind(config, dimse::Intakes::of(intake)).await;
        let listener = listener.map_err(|error| cannot_listen("DICOM", &error))?;
        let address = listener.address().ok().map(|it| it.to_string());
        tasks.spawn(listener.listen(self.closed.clone()));
        Ok(address)
    }

    async fn open_hl7(
        &self,
        senders: &AllowedSenders,
        intake: &Arc<IntakeService>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<String>, Failure> {
        let site = self.config.hl7.as_ref();
        let Some(config) = hl7_config(site, self.arguments, senders)? else { return Ok(None) };
        let messages: Arc<dyn MessageIntake> = Arc::<IntakeService>::clone(intake);
        let events: Arc<dyn EventSink> = Arc::<IntakeService>::clone(intake);
        let listener = hl7::Listener::bind(config, messages, events).await;
        let listener = listener.map_err(|error| cannot_listen("HL7", &error))?;
        let address = listener.address().ok().map(|it| it.to_string());
        tasks.spawn(listener.listen(self.closed.clone()));
        Ok(address)
    }

    async fn open_http(
        &self,
        services: HttpServices,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<String>, Failure> {
        let listen = self.arguments.http.or_else(|| self.config.http.as_ref().map(|it| it.listen));
        let Some(listen) = listen else { return Ok(None) };
        let listener =
            TcpListener::bind(listen).await.map_err(|error| cannot_listen("HTTP", &error))?;
        let address = listener.local_addr().ok().map(|it| it.to_string());
        tasks.spawn(async move {
            if let Err(error) = http::serve(listener, services).await {
                error!(%error, "health and metrics are no longer answered");
            }
        });
        Ok(address)
    }
}

fn cannot_listen(protocol: &str, error: &std::io::Error) -> Failure {
    Failure::from_error(&format!("cannot listen for {protocol}"), error)
}

fn dicom_config(
    site: Option<&DicomConfig>,
    arguments: &SiteArgs,
    senders: &AllowedSenders,
    ae_title: AeTitle,
) -> Option<dimse::Config> {
    Some(dimse::Config {
        listen: arguments.dicom.or_else(|| site.map(|it| it.listen))?,
        ae_title,
        peers: Arc::clone(&senders.peers),
        associations_max: 512,
        associations_per_peer_max: site.map_or(PER_PEER_MAX, |it| it.associations_per_peer),
        pdu_bytes_max: site.map_or(131_072, |it| it.pdu_bytes_max),
        timers: site.map_or_else(Timers::default, |it| it.timers.timers()),
    })
}

fn hl7_config(
    site: Option<&Hl7Config>,
    arguments: &SiteArgs,
    senders: &AllowedSenders,
) -> Result<Option<hl7::Config>, Failure> {
    let Some(listen) = arguments.mllp.or_else(|| site.map(|it| it.listen)) else { return Ok(None) };
    let mut rules = hl7::Rules::default();
    if let Some(site) = site {
        rules.charset = Hl7Charset::parse(&site.character_set, Hl7Charset::Utf8)
            .map_err(|error| Failure::from_error("hl7.character_set", &error))?;
        rules.processing_ids.clone_from(&site.processing_ids);
        rules.types.clone_from(&site.types);
        rules.applications.clone_from(&site.applications);
    }
    let networks = Arc::clone(&senders.networks);
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
