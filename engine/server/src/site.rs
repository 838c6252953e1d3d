//! A site: everything its files say, read and checked before anything listens.

use std::sync::Arc;

use archive::FolderDestination;
use contracts::{Archive, Decoder, Destination, ReportForm};
use domain::AeTitle;
use orchestrator::{ActiveWorkflow, Destinations, SiteDestination};
use plugin_host::PluginHost;
use report::{Fonts, PdfError, Recipient, Templates};

use crate::active_model::ActiveModel;
use crate::config::{Config, DestinationConfig, OnError, OnIdentityChange};
use crate::installation::Installation;
use crate::output::Failure;
use crate::plugins::{PluginEnvironment, open_host, plugin_folder, refused_plugins, trust};
use crate::site_args::SiteArgs;
use crate::workflows::{files, named_twice, read_all, rendered};

/// A site whose files have all been read and checked.
pub(crate) struct Site {
    pub(crate) host: Arc<PluginHost>,
    pub(crate) model: ActiveModel,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) decoder: Arc<dyn Decoder>,
    pub(crate) destinations: Destinations,
    pub(crate) workflows: Vec<ActiveWorkflow>,
    pub(crate) templates: Templates,
}

impl Site {
    /// Reads everything, and reports everything that is wrong. Destinations that `more` workflows
    /// name are known, too.
    pub(crate) async fn read(
        installation: &Installation,
        arguments: &SiteArgs,
        more: &[&str],
    ) -> Result<Self, Failure> {
        let config = &installation.config;
        let trust = trust(installation, arguments)?;
        let folder = plugin_folder(installation, arguments);
        let PluginEnvironment { archive, host, decoder } =
            open_host(&installation.data, &folder, trust, config).await?;
        let folder = arguments.workflows.as_ref().or(config.workflows.as_ref());
        let files = folder.map(|it| files(it)).transpose()?.unwrap_or_default();
        let texts: Vec<&str> =
            files.iter().map(|it| it.text.as_str()).chain(more.iter().copied()).collect();
        let destinations = destinations(config, arguments, &texts)?;
        let workflows = read_all(&files, &host, &destinations).await.map_err(|problems| {
            Failure::new(format!("\n{}{}", rendered(&problems), refused_plugins(&host)))
        })?;
        if let Some(problem) = named_twice(&files, &workflows) {
            return Err(Failure::new(problem));
        }
        let fonts = fonts(config, &destinations)?;

        let templates = Templates::open(config.templates.as_deref(), fonts)
            .map_err(|error| Failure::from_error("a template cannot be used", &error))?;
        let host = Arc::new(host);
        let model = ActiveModel::start(config.model.as_ref(), &installation.data, &host)?;
        Ok(Self { host, model, archive, decoder, destinations, workflows, templates })
    }
}

/// The fonts of PDF reports. Without any font, no destination may prefer its report as PDF.
fn fonts(config: &Config, destinations: &Destinations) -> Result<Fonts, Failure> {
    let fonts = Fonts::open(&config.fonts).map_err(|error| no_pdf(&error))?;
    let mut recipients = destinations.values().map(|site| &site.recipient);
    if fonts.is_empty() && recipients.any(|it| it.preferences.report == ReportForm::Pdf) {
        return Err(no_pdf(&PdfError::NoFont));
    }
    Ok(fonts)
}

fn no_pdf(error: &PdfError) -> Failure {
    Failure::from_error("no PDF can be written", error)
}

/// The destinations of the site file, and the folder for all others that workflows name.
pub(crate) fn destinations(
    config: &Config,
    arguments: &SiteArgs,
    texts: &[&str],
) -> Result<Destinations, Failure> {
    let calling = own_ae_title(config)?;
    let mut destinations = Destinations::new();
    for (name, it) in &config.destinations {
        destinations.insert(name.clone(), destination(name, it, &calling)?);
    }
    add_stand_ins(&mut destinations, arguments, texts);
    Ok(destinations)
}

/// Adds the folder of a trial for every destination that workflows name and the site file does not.
pub(crate) fn add_stand_ins(destinations: &mut Destinations, arguments: &SiteArgs, texts: &[&str]) {
    let Some(folder) = &arguments.folder else { return };
    for name in texts.iter().flat_map(|it| workflow::destinations(it)) {
        let destination: Arc<dyn Destination> = Arc::new(FolderDestination::new(folder.clone()));
        let site = SiteDestination {
            recipient: Recipient::new(&name, destination.preferences()),
            destination,
            allow_unverified: true,
            resends_on_identity_change: true,
            pauses_on_failure: false,
        };
        destinations.entry(name).or_insert(site);
    }
}

pub(crate) fn own_ae_title(config: &Config) -> Result<AeTitle, Failure> {
    match &config.dicom {
        Some(dicom) => Ok(dicom.ae_title.clone()),
        None => "ISOCENTER".parse().map_err(|error| Failure::from_error("our AE title", &error)),
    }
}

fn destination(
    name: &str,
    config: &DestinationConfig,
    calling: &AeTitle,
) -> Result<SiteDestination, Failure> {
    let destination = config
        .kind
        .open(calling)
        .map_err(|error| Failure::from_error(&format!("destination `{name}`"), error.as_ref()))?;
    Ok(SiteDestination {
        recipient: Recipient::new(name, destination.preferences()),
        destination,
        allow_unverified: config.allow_unverified,
        resends_on_identity_change: config.on_identity_change == OnIdentityChange::Resend,
        pauses_on_failure: config.on_error == OnError::Block,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::installation::InstallationArgs;

    fn installation(config: &str) -> Installation {
        Installation {
            config: Arc::new(Config::parse(config).unwrap()),
            data: PathBuf::from("/nowhere"),
            text: config.to_owned(),
            arguments: InstallationArgs::default(),
        }
    }

    #[test]
    fn our_ae_title_is_that_of_the_site_file() {
        let title = |config: &str| own_ae_title(&installation(config).config).unwrap().to_string();
        assert_eq!(title("log: text"), "ISOCENTER");
        assert_eq!(title("dicom: { listen: 127.0.0.1:104, ae_title: AI1, peers: [] }"), "AI1");
    }

    #[test]
    fn a_folder_stands_only_for_destinations_the_site_file_does_not_name() {
        let workflow = "
            workflow: bone
            on: { study: { complete: { quiet: 300ms } } }
            nodes: { bone: { plugin: segmentation } }
            deliver:
              - { to: pacs, what: [seg], after: [bone] }
              - { to: ehr, what: [oru], after: [bone] }";
        let mut destinations = Destinations::new();
        add_stand_ins(&mut destinations, &SiteArgs::default(), &[workflow]);
        assert!(destinations.is_empty());
        let arguments = SiteArgs { folder: Some("/tmp/out".into()), ..SiteArgs::default() };
        let config = installation("destinations: { pacs: { folder: /srv/pacs } }").config;
        let destinations = super::destinations(&config, &arguments, &[workflow]).unwrap();
        let unverified: Vec<(&str, bool)> =
            destinations.iter().map(|(name, it)| (name.as_str(), it.allow_unverified)).collect();
        assert_eq!(unverified, [("ehr", true), ("pacs", false)]);
    }
}
