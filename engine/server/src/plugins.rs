//! The plugins of a site: where they lie, whom the site trusts, and the host that loads them. The
//! decoder, which is a process of this program as they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::DiskArchive;
use contracts::{Archive, Decoder};
use plugin_host::{ConfinedDecoder, DecoderLimits, PluginHost, PluginLimits, Trust};

use crate::config::Config;
use crate::installation::Installation;
use crate::output::Failure;
use crate::public_key::public_key;
use crate::site_args::SiteArgs;

/// What plugins run in: the archive they read images from, and the host that loads them.
pub(crate) struct PluginEnvironment {
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) host: PluginHost,
    pub(crate) decoder: Arc<dyn Decoder>,
}

/// Opens the archive below `data`, and loads the plugins of `folder` that are trusted. `config`
/// says whether they may run unconfined.
pub(crate) async fn open_host(
    data: &Path,
    folder: &Path,
    trust: Trust,
    config: &Config,
) -> Result<PluginEnvironment, Failure> {
    let archive = DiskArchive::open(&data.join("archive"))
        .map_err(|error| Failure::from_error("cannot open the archive", &error))?;
    let archive: Arc<dyn Archive> = Arc::new(archive);
    let engine = own_program()?;
    let decoder = decoder()?;
    let store = data.join("plugins");
    let allow_unconfined = config.allow_unconfined_plugins;
    let reused = config.reused_plugins.clone();
    let limits = PluginLimits { allow_unconfined, reused, ..PluginLimits::default() };
    let host = PluginHost::open(engine, folder, store, Arc::clone(&archive), limits, trust)
        .await
        .and_then(|it| it.with_models(data.join("models")))
        .map_err(|error| Failure::from_error("cannot load the plugins", &error))?;
    Ok(PluginEnvironment { archive, host, decoder })
}

/// What decodes files of other systems: processes of this program.
pub(crate) fn decoder() -> Result<Arc<dyn Decoder>, Failure> {
    Ok(Arc::new(ConfinedDecoder::new(own_program()?, DecoderLimits::default())))
}

fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::from_error("cannot find this program", &error))
}

/// The folder with plugins: of the command line, of the site file, or that of this program.
pub(crate) fn plugin_folder(installation: &Installation, arguments: &SiteArgs) -> PathBuf {
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
    let trust = trust(installation, arguments)?;
    let opened = open_host(scratch, &folder, trust, &installation.config).await?;
    let refused = opened.host.refused().into_iter();
    Ok(refused.map(|it| format!("{}: {}", it.source.display(), it.reason)).collect())
}

/// Whose plugins are loaded: those the site has signed, and those of the makers it names.
pub(crate) fn trust(installation: &Installation, arguments: &SiteArgs) -> Result<Trust, Failure> {
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

/// Plugins that were found and not loaded, a line each: a workflow may lack one of them.
pub(crate) fn refused_plugins(host: &PluginHost) -> String {
    let refused = host.refused().into_iter();
    let mut lines: Vec<String> =
        refused.map(|it| format!("not used: {}: {}", it.source.display(), it.reason)).collect();
    // A line that is there ends like every other one.
    lines.push(String::new());
    lines.join("\n")
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
}
