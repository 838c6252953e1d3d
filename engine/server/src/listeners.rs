//! The listeners: where the engine listens, and to whom it opens.

use std::sync::Arc;

use contracts::{EventSink, Live, MessageIntake};
use dimse::{DicomConfig, Network, Peer};
use hl7::Hl7Config;
use orchestrator::IntakeService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::config::Config;
use crate::http::{self, HttpServices};
use crate::output::Failure;
use crate::site_args::SiteArgs;

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
            config.dicom.iter().flat_map(|it| &it.peers).map(Peer::from).collect();
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
        let config = self.config.dicom.clone();
        let Some(mut config) = config.or_else(|| self.arguments.dicom.map(DicomConfig::new)) else {
            return Ok(None);
        };
        config.listen = self.arguments.dicom.unwrap_or(config.listen);
        let config = config.listener(Arc::clone(&senders.peers));
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
        let config = self.config.hl7.clone();
        let Some(mut config) = config.or_else(|| self.arguments.mllp.map(Hl7Config::new)) else {
            return Ok(None);
        };
        config.listen = self.arguments.mllp.unwrap_or(config.listen);
        let config = config
            .listener(Arc::clone(&senders.networks), Arc::new(self.config.numbering().domains))
            .map_err(|error| Failure::from_error("hl7.character_set", &error))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(config: &str, trust_loopback: bool) -> AllowedSenders {
        let senders = AllowedSenders::default();
        let arguments = SiteArgs { trust_loopback, ..SiteArgs::default() };
        senders.set(&Config::parse(config).unwrap(), &arguments);
        senders
    }

    const SITE: &str = "{ dicom: { listen: 127.0.0.1:104, peers: [
            { ae_title: CT1, networks: [10.1.0.0/16] }] },
        hl7: { listen: 127.0.0.1:2575, networks: [10.3.0.0/24] } }";

    #[test]
    fn only_what_the_site_file_names_is_accepted() {
        let allowed = senders(SITE, false);
        assert_eq!((allowed.peers.get().len(), allowed.networks.get().len()), (1, 1));
        let nobody = senders("log: text", false);
        assert!(nobody.peers.get().is_empty() && nobody.networks.get().is_empty());
    }

    #[test]
    fn trusting_this_machine_adds_a_peer_of_any_title() {
        let allowed = senders(SITE, true);
        let peers = allowed.peers.get();
        assert_eq!(peers.iter().filter(|it| it.ae_title.is_none()).count(), 1);
        let here = "127.0.0.1".parse().unwrap();
        assert!(allowed.networks.get().iter().any(|it| it.contains(here)));
    }

    #[test]
    fn a_new_site_file_replaces_the_senders_of_the_old_one() {
        let allowed = senders(SITE, true);
        allowed.set(&Config::parse("log: text").unwrap(), &SiteArgs::default());
        assert!(allowed.peers.get().is_empty() && allowed.networks.get().is_empty());
    }
}
