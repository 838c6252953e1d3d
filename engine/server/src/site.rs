//! A site: everything its files say, read and checked before anything listens.

use std::path::Path;
use std::sync::Arc;

use archive::{DiskArchive, FolderDestination};
use contracts::{Archive, Destination, ReportForm};
use domain::AeTitle;
use orchestrator::{ActiveWorkflow, Destinations, SiteDestination};
use plugin_host::{PluginHost, PluginLimits, Trust};
use report::{Fonts, PdfError, Recipient, Templates};

use crate::args::{Place, ServeFlags};
use crate::commands::audit::public_key;
use crate::config::{Config, DestinationConfig, OnError, OnIdentityChange};
use crate::model_at_work::ModelAtWork;
use crate::output::Failure;
use crate::workflows::{files, named_twice, read_all, rendered};

/// A site whose files have all been read and checked.
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) host: Arc<PluginHost>,
    pub(crate) model: ModelAtWork,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) destinations: Destinations,
    pub(crate) workflows: Vec<ActiveWorkflow>,
    pub(crate) templates: Templates,
}

impl Site {
    /// Reads everything, and says everything that is wrong.
    pub(crate) async fn read(
        place: &Place,
        flags: &ServeFlags,
        more: &[&str],
    ) -> Result<Self, Failure> {
        let config = Config::read(place)?;
        let data = config.data(place);
        let trust = trust(&config, flags, place)?;
        let (archive, host) = open_host(&data, &config.plugins(flags, &data), trust).await?;
        let folder = flags.workflows.clone().or_else(|| config.workflows.clone());
        let files = folder.as_deref().map(files).transpose()?.unwrap_or_default();
        let texts: Vec<&str> =
            files.iter().map(|it| it.text.as_str()).chain(more.iter().copied()).collect();
        let destinations = destinations(&config, flags, &texts)?;
        let workflows = read_all(&files, &host, &destinations).await.map_err(|problems| {
            let unused = host.refused().into_iter();
            let unused = unused.map(|(path, why)| format!("not used: {}: {why}\n", path.display()));
            let unused: String = unused.collect();
            Failure::new(format!("\n{}{unused}", rendered(&problems)))
        })?;
        if let Some(problem) = named_twice(&files, &workflows) {
            return Err(Failure::new(problem));
        }
        let fonts = fonts(&config, &destinations)?;
        let templates = Templates::open(config.templates.as_deref(), fonts)
            .map_err(|error| Failure::from_error("a template is of no use", &error))?;
        let host = Arc::new(host);
        let model = ModelAtWork::begin(&config, &data, &host)?;
        Ok(Self { config, host, model, archive, destinations, workflows, templates })
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

/// The archive below `data`, and the plugins of `folder` that are trusted, which work with it.
pub(crate) async fn open_host(
    data: &Path,
    folder: &Path,
    trust: Trust,
) -> Result<(Arc<dyn Archive>, PluginHost), Failure> {
    let archive = DiskArchive::open(&data.join("archive"))
        .map_err(|error| Failure::from_error("cannot open the archive", &error))?;
    let archive: Arc<dyn Archive> = Arc::new(archive);
    let engine = std::env::current_exe()
        .map_err(|error| Failure::from_error("cannot find this program", &error))?;
    let (store, limits) = (data.join("plugins"), PluginLimits::default());
    let host = PluginHost::open(engine, folder, store, Arc::clone(&archive), limits, trust)
        .await
        .map_err(|error| Failure::from_error("cannot load the plugins", &error))?;
    Ok((archive, host))
}

/// Plugins in the folder of a site that it would not load, and why.
pub(crate) async fn untrusted(
    config: &Config,
    flags: &ServeFlags,
    place: &Place,
    scratch: &Path,
) -> Result<Vec<String>, Failure> {
    let data = config.data(place);
    if flags.allow_unsigned || !data.join("keys").exists() && config.plugin_keys.is_empty() {
        return Ok(Vec::new());
    }
    let folder = config.plugins(flags, &data);
    let (_, host) = open_host(scratch, &folder, trust(config, flags, place)?).await?;
    let refused = host.refused().into_iter();
    Ok(refused.map(|(path, why)| format!("{}: {why}", path.display())).collect())
}

/// Whose plugins are loaded: those the site has signed, or whose makers it names.
fn trust(config: &Config, flags: &ServeFlags, place: &Place) -> Result<Trust, Failure> {
    if flags.allow_unsigned {
        if !config.inline_plugins.is_empty() {
            let text = "`inline_plugins` names plugins for the engine's own process: these have to \
                        be signed, so start without --allow-unsigned";
            return Err(Failure::new(text));
        }
        return Ok(Trust::Anyone);
    }
    let own = store::plugin_key(&config.data(place).join("keys"))
        .map_err(|error| Failure::from_error("cannot open the keys", &error))?;
    let mut keys = vec![own.verifying_key()];
    for key in &config.plugin_keys {
        keys.push(public_key(key)?);
    }
    let signatures = config.data(place).join("signatures");
    Ok(Trust::Signed { keys, inline: config.inline_plugins.clone(), signatures })
}

/// The destinations of the site file, and the folder for all others that workflows name.
pub(crate) fn destinations(
    config: &Config,
    flags: &ServeFlags,
    texts: &[&str],
) -> Result<Destinations, Failure> {
    let calling = own_ae_title(config)?;
    let mut destinations = Destinations::new();
    for (name, it) in &config.destinations {
        destinations.insert(name.clone(), destination(name, it, &calling)?);
    }
    add_stand_ins(&mut destinations, flags, texts);
    Ok(destinations)
}

/// Adds the folder of a trial for every destination that workflows name and the site file does not.
pub(crate) fn add_stand_ins(destinations: &mut Destinations, flags: &ServeFlags, texts: &[&str]) {
    let Some(folder) = &flags.folder else { return };
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
