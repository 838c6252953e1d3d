//! A site: everything its files say, read and checked before anything listens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::{DiskArchive, FolderDestination};
use clap::Args;
use contracts::{Archive, Destination, ReportForm};

use domain::AeTitle;
use orchestrator::{ActiveWorkflow, Destinations, SiteDestination};
use plugin_host::{PluginHost, PluginLimits, Trust};
use report::{Fonts, PdfError, Recipient, Templates};

use crate::active_model::ActiveModel;
use crate::config::{Config, DestinationConfig, OnError, OnIdentityChange};
use crate::installation::Installation;
use crate::output::Failure;
use crate::public_key::public_key;
use crate::telemetry::LogFormat;
use crate::workflows::{files, named_twice, read_all, rendered};

/// Parts of a site that the command line names instead of the site file.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SiteArgs {
    /// The folder with workflow files.
    #[arg(long)]
    pub(crate) workflows: Option<PathBuf>,
    /// The folder with plugins. Default: the folder of this program, then `plugins` in the data
    /// folder.
    #[arg(long)]
    pub(crate) plugins: Option<PathBuf>,
    /// Where to listen for DICOM.
    #[arg(long)]
    pub(crate) dicom: Option<SocketAddr>,
    /// Where to listen for HL7.
    #[arg(long)]
    pub(crate) mllp: Option<SocketAddr>,
    /// Where to answer `/healthz`, `/metrics` and `/api`.
    #[arg(long)]
    pub(crate) http: Option<SocketAddr>,
    /// A folder that stands for every destination the site file does not name.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Accept nothing, work on nothing and send nothing until each is released: see
    /// `isocenter hold`.
    #[arg(long)]
    pub(crate) safe_mode: bool,
    /// Accept every peer on this machine, whatever its AE title.
    #[arg(long)]
    pub(crate) trust_loopback: bool,
    /// Load plugins that nobody has signed. For trials.
    #[arg(long)]
    pub(crate) allow_unsigned: bool,
    /// How to write the log.
    #[arg(long, value_enum)]
    pub(crate) log: Option<LogFormat>,
    /// Where to write the log, instead of standard error.
    #[arg(long)]
    pub(crate) log_file: Option<PathBuf>,
}

/// A site whose files have all been read and checked.
pub(crate) struct Site {
    pub(crate) host: Arc<PluginHost>,
    pub(crate) model: ActiveModel,
    pub(crate) archive: Arc<dyn Archive>,
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
        let PluginEnvironment { archive, host } =
            open_host(&installation.data, &folder, trust).await?;
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
        Ok(Self { host, model, archive, destinations, workflows, templates })
    }
}

/// Plugins that were found and not loaded, a line each: a workflow may lack one of them.
fn refused_plugins(host: &PluginHost) -> String {
    let refused = host.refused().into_iter();
    let mut lines: Vec<String> =
        refused.map(|it| format!("not used: {}: {}", it.source.display(), it.reason)).collect();
    // A line that is there ends like every other one.
    lines.push(String::new());
    lines.join("\n")
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

/// What plugins run in: the archive they read images from, and the host that loads them.
pub(crate) struct PluginEnvironment {
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) host: PluginHost,
}

/// Opens the archive below `data`, and loads the plugins of `folder` that are trusted.
pub(crate) async fn open_host(
    data: &Path,
    folder: &Path,
    trust: Trust,
) -> Result<PluginEnvironment, Failure> {
    let archive = DiskArchive::open(&data.join("archive"))
        .map_err(|error| Failure::from_error("cannot open the archive", &error))?;
    let archive: Arc<dyn Archive> = Arc::new(archive);
    let engine = std::env::current_exe()
        .map_err(|error| Failure::from_error("cannot find this program", &error))?;
    let store = data.join("plugins");
    let limits = PluginLimits::default();
    let host = PluginHost::open(engine, folder, store, Arc::clone(&archive), limits, trust)
        .await
        .map_err(|error| Failure::from_error("cannot load the plugins", &error))?;
    Ok(PluginEnvironment { archive, host })
}

/// The folder with plugins: of the command line, of the site file, or that of this program.
fn plugin_folder(installation: &Installation, arguments: &SiteArgs) -> PathBuf {
    let named = arguments.plugins.clone().or_else(|| installation.config.plugins.clone());
    named.or_else(own_folder).unwrap_or_else(|| installation.data.join("plugins"))
}

/// The folder of this program.
pub(crate) fn own_folder() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

/// Plugins in the folder of a site that it would not load, and why.
pub(crate) async fn untrusted(
    installation: &Installation,
    arguments: &SiteArgs,
    scratch: &Path,
) -> Result<Vec<String>, Failure> {
    let has_keys = installation.data.join("keys").exists();
    let names_keys = !installation.config.plugin_keys.is_empty();
    if arguments.allow_unsigned || !(has_keys || names_keys) {
        return Ok(Vec::new());
    }
    let folder = plugin_folder(installation, arguments);
    let opened = open_host(scratch, &folder, trust(installation, arguments)?).await?;
    let refused = opened.host.refused().into_iter();
    Ok(refused.map(|it| format!("{}: {}", it.source.display(), it.reason)).collect())
}

/// Whose plugins are loaded: those the site has signed, and those of the makers it names.
fn trust(installation: &Installation, arguments: &SiteArgs) -> Result<Trust, Failure> {
    let config = &installation.config;
    if arguments.allow_unsigned {
        if !config.inline_plugins.is_empty() {
            let text = "`inline_plugins` names plugins for the engine's own process, and these must \
                        be signed";
            return Err(Failure::new(text).with_hint("start without --allow-unsigned"));
        }
        return Ok(Trust::Anyone);
    }
    let own = store::plugin_key(&installation.data.join("keys"))
        .map_err(|error| Failure::from_error("cannot open the keys", &error))?;
    let mut keys = vec![own.verifying_key()];
    for key in &config.plugin_keys {
        keys.push(public_key(key)?);
    }
    let inline = config.inline_plugins.clone();
    let signatures = installation.data.join("signatures");
    Ok(Trust::Signed { keys, inline, signatures })
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
    fn the_command_line_names_the_plugin_folder_before_the_site_file_does() {
        let site = installation("plugins: /usr/lib/isocenter/plugins");
        let none = SiteArgs::default();
        assert_eq!(plugin_folder(&site, &none), Path::new("/usr/lib/isocenter/plugins"));
        let flag = SiteArgs { plugins: Some("/tmp/plugins".into()), ..SiteArgs::default() };
        assert_eq!(plugin_folder(&site, &flag), Path::new("/tmp/plugins"));
        assert_eq!(Some(plugin_folder(&installation("log: text"), &none)), own_folder());
    }

    #[test]
    fn inline_plugins_are_never_loaded_unsigned() {
        let arguments = SiteArgs { allow_unsigned: true, ..SiteArgs::default() };
        let site = installation("inline_plugins: [segmentation]");
        let refused = trust(&site, &arguments).err().unwrap();
        assert!(refused.text().contains("inline_plugins"), "{}", refused.text());
        assert!(matches!(trust(&installation("log: text"), &arguments), Ok(Trust::Anyone)));
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
