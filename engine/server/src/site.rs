//! A site: everything its files say, read and checked before anything listens.

use std::path::Path;
use std::sync::Arc;

use archive::{DiskArchive, FolderDestination};
use contracts::{Archive, Destination};
use dimse::{DicomDestination, Remote, Timers};
use domain::AeTitle;
use encoding::hl7_charset::Hl7Charset;
use fhir::{FhirConfig, FhirDestination};
use hl7::MllpDestination;
use orchestrator::{ActiveWorkflow, Destinations, SiteDestination};
use plugin_host::{PluginHost, PluginLimits, Trust};
use report::{Fonts, PdfError, Recipient, ReportForm, SegmentationForm, Templates};

use crate::args::{Place, ServeFlags};
use crate::commands::audit::public_key;
use crate::config::{Config, DestinationConfig, FhirServerConfig, OnError, OnIdentityChange};
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
        let fonts = fonts(&config)?;
        let templates = Templates::open(config.templates.as_deref(), fonts)
            .map_err(|error| Failure::from_error("a template is of no use", &error))?;
        let host = Arc::new(host);
        let model = ModelAtWork::begin(&config, &data, &host)?;
        Ok(Self { config, host, model, archive, destinations, workflows, templates })
    }
}

/// What pages are set in. Without any, no destination may want pages.
fn fonts(config: &Config) -> Result<Fonts, Failure> {
    let unusable = |error: &PdfError| Failure::from_error("no PDF can be written", error);
    let fonts = Fonts::open(&config.fonts).map_err(|it| unusable(&it))?;
    let mut messages = config.destinations.values().filter_map(|it| it.mllp.as_ref());
    if fonts.is_empty() && messages.any(|it| it.report == ReportForm::Pdf) {
        return Err(unusable(&PdfError::NoFont));
    }
    Ok(fonts)
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
        let recipient = recipient(&name, "", "", "UNICODE UTF-8");
        let site = SiteDestination {
            destination,
            recipient,
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
    let plain = || recipient(name, "", "", "UNICODE UTF-8");
    let (destination, recipient): (Arc<dyn Destination>, _) = match config {
        DestinationConfig { dicom: Some(remote), .. } => {
            let (commitment, segmentation) = (remote.commitment, remote.segmentation);
            let remote = Remote {
                address: remote.address.clone(),
                called: remote.ae_title.clone(),
                calling: calling.clone(),
                timers: Timers::default(),
            };
            let recipient = Recipient { segmentation, ..plain() };
            (Arc::new(DicomDestination::new(remote, commitment)), recipient)
        }
        DestinationConfig { mllp: Some(ehr), .. } => {
            let charset = Hl7Charset::parse(&ehr.character_set, Hl7Charset::Utf8)
                .map_err(|error| Failure::from_error(&format!("destination `{name}`"), &error))?;
            let known = recipient(name, &ehr.application, &ehr.facility, &ehr.character_set);
            let recipient = Recipient { report: ehr.report, ..known };
            (Arc::new(MllpDestination::new(ehr.address.clone(), charset)), recipient)
        }
        DestinationConfig { fhir: Some(server), .. } => {
            (
                Arc::new(FhirDestination::new(fhir_server(name, server)?).map_err(|error| {
                    Failure::from_error(&format!("destination `{name}`"), &error)
                })?),
                plain(),
            )
        }
        DestinationConfig { folder: Some(folder), .. } => {
            (Arc::new(FolderDestination::new(folder.clone())), plain())
        }
        _ => return Err(Failure::new(format!("destination `{name}` goes nowhere"))),
    };
    Ok(SiteDestination {
        destination,
        recipient,
        allow_unverified: config.allow_unverified,
        resends_on_identity_change: config.on_identity_change == OnIdentityChange::Resend,
        pauses_on_failure: config.on_error == OnError::Block,
    })
}

/// Where a FHIR server is, with the key that is in a file of its own.
fn fhir_server(name: &str, config: &FhirServerConfig) -> Result<FhirConfig, Failure> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).map_err(|error| {
            let text = format!("destination `{name}`: cannot read `{}`", path.display());
            Failure::from_error(&text, &error)
        })
    };
    let key = config.key_file.as_ref().map(read).transpose()?;
    Ok(FhirConfig { url: config.url.clone(), key: key.map(|it| it.trim().to_owned()) })
}

fn recipient(name: &str, application: &str, facility: &str, character_set: &str) -> Recipient {
    Recipient {
        destination: name.to_owned(),
        sending_application: "ISOCENTER".to_owned(),
        sending_facility: "AI".to_owned(),
        receiving_application: application.to_owned(),
        receiving_facility: facility.to_owned(),
        character_set: character_set.to_owned(),
        report: ReportForm::None,
        segmentation: SegmentationForm::Binary,
    }
}
