//! `isocenter plugin`: plugins, listed, made, checked and signed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use ed25519_dalek::SigningKey;
use plugin_host::{Trust, sign};

use super::Execute;
use super::scratch::{Scratch, ScratchSite};
use crate::config::Config;
use crate::installation::{Installation, InstallationArgs};
use crate::output::{Failure, line, list};
use crate::plugins::{open_host, own_folder};
use crate::site_args::SiteArgs;

/// Lists, makes, checks and signs plugins.
#[derive(Args)]
pub(crate) struct Plugin {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Lists the plugins of a folder.
    List {
        /// The folder. Default: that of this program.
        #[arg(long)]
        plugins: Option<PathBuf>,
        /// Show them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes the skeleton of a plugin that works.
    New {
        /// The name: lower-case letters, digits, dashes.
        name: String,
        /// The language.
        #[arg(long, value_enum, default_value_t = Language::Rust)]
        language: Language,
        /// Where to make its folder.
        #[arg(long, default_value = ".")]
        into: PathBuf,
    },
    /// Loads a plugin as the engine would, and reports whether it can be used.
    Check {
        /// The library, or the folder that ends in `.plugin`.
        plugin: PathBuf,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Signs plugins with the key of this site: from then on the engine loads them.
    Sign {
        /// Libraries, or folders that end in `.plugin`.
        #[arg(required = true)]
        plugins: Vec<PathBuf>,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// A shared library, with the crate `plugin-api`.
    Rust,
    /// A shared library, with `plugin.h`.
    C,
    /// A program of its own that speaks over a socket.
    Python,
}

const HEADINGS: [&str; 4] = ["plugin", "version", "sha256", "library"];

impl Execute for Plugin {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            PluginCommand::List { plugins, json } => return show(plugins, json).await,
            PluginCommand::New { name, language, into } => make(&name, language, &into)?,
            PluginCommand::Check { plugin, installation } => check(&plugin, &installation).await?,
            PluginCommand::Sign { plugins, installation } => {
                sign_all(&plugins, &installation).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn show(folder: Option<PathBuf>, as_json: bool) -> Result<ExitCode, Failure> {
    let installation = InstallationArgs::default().read()?;
    let arguments = SiteArgs { plugins: folder.or_else(own_folder), ..SiteArgs::default() };
    let checked = ScratchSite::read(&installation, &arguments, &[]).await?;
    let plugins = checked.site.host.plugins();
    if as_json {
        let pins: Vec<_> = plugins.into_iter().map(|it| it.pin).collect();
        return list(true, &pins, &HEADINGS, |_| Vec::new());
    }
    let rows: Vec<[String; 4]> = plugins
        .into_iter()
        .map(|it| {
            let library = it.source.display().to_string();
            [it.pin.name, it.pin.version, it.pin.digest, library]
        })
        .collect();
    list(false, &rows, &HEADINGS, |it| it.to_vec())
}

/// Signs plugins with the key of the site. The signatures lie in its data folder.
pub(super) async fn sign_all(
    plugins: &[PathBuf],
    arguments: &InstallationArgs,
) -> Result<(), Failure> {
    let Installation { data, config, .. } = arguments.read()?;
    let signatures = data.join("signatures");
    let key = site_key(&data)?;
    for plugin in plugins {
        let LoadedPlugin { name, version } = load(plugin, Trust::Anyone, &config).await?;
        let path = sign(plugin, &name, &version, &key, &signatures).map_err(|error| {
            Failure::from_error(&format!("cannot sign `{}`", plugin.display()), &error)
        })?;
        line(format_args!("{name} {version} is signed: {}", path.display()));
    }
    Ok(())
}

fn site_key(data: &Path) -> Result<SigningKey, Failure> {
    store::plugin_key(&data.join("keys"))
        .map_err(|error| Failure::from_error("cannot open the keys", &error))
}

/// Reports whether a plugin can be used, and whether this site has signed it.
async fn check(plugin: &Path, arguments: &InstallationArgs) -> Result<(), Failure> {
    let Installation { data, config, .. } = arguments.read()?;
    let LoadedPlugin { name, version } = load(plugin, Trust::Anyone, &config).await?;
    line(format_args!("{name} {version}: it loads, describes itself and answers"));
    if !data.join("keys/plugins.key").exists() {
        line("to check its signature, name the data folder of a site: --data or --config");
        return Ok(());
    }
    let keys = vec![site_key(&data)?.verifying_key()];
    let signatures = data.join("signatures");
    load(plugin, Trust::Signed { keys, inline: Vec::new(), signatures }, &config).await?;
    line("this site has signed it as it is");
    Ok(())
}

/// A plugin as it describes itself.
struct LoadedPlugin {
    name: String,
    version: String,
}

/// Loads one plugin alone, as the engine would.
async fn load(plugin: &Path, trust: Trust, config: &Config) -> Result<LoadedPlugin, Failure> {
    if !plugin.exists() {
        return Err(Failure::new(format!("there is no `{}`", plugin.display())));
    }
    let scratch = Scratch::new()?;
    let alone = scratch.path().join("alone");
    link_alone(plugin, &alone).map_err(|error| {
        Failure::from_error(&format!("cannot read `{}`", plugin.display()), &error)
    })?;
    let opened = open_host(scratch.path(), &alone, trust, config).await?;
    if let Some(loaded) = opened.host.plugins().into_iter().next() {
        return Ok(LoadedPlugin { name: loaded.pin.name, version: loaded.pin.version });
    }
    Err(Failure::new(match opened.host.refused().first() {
        Some(refused) => format!("`{}`: {}", plugin.display(), refused.reason),
        None => format!(
            "`{}` is neither a library that ends in .so nor a folder that ends in .plugin and \
             holds plugin.json",
            plugin.display()
        ),
    }))
}

/// Makes a folder with nothing in it but links to a plugin and its signature.
fn link_alone(plugin: &Path, alone: &Path) -> std::io::Result<()> {
    let folder = plugin.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = plugin.file_name().unwrap_or_default();
    let signature = format!("{}.signed.json", name.to_string_lossy());
    std::fs::create_dir_all(alone)?;
    for file in [PathBuf::from(name), PathBuf::from(signature)] {
        let source = std::path::absolute(folder.join(&file))?;
        std::os::unix::fs::symlink(source, alone.join(file))?;
    }
    Ok(())
}

/// A file of a skeleton.
struct SkeletonFile {
    path: &'static str,
    text: &'static str,
}

/// What a new plugin begins with.
struct Skeleton {
    files: &'static [SkeletonFile],
    /// The word in the files that stands for the plugin's name. `SYMBOL` stands for the same as a
    /// type of Rust.
    placeholder: &'static str,
    /// The ending of the plugin's folder.
    ending: &'static str,
    /// What the author does next.
    next: &'static str,
}

const RUST: Skeleton = Skeleton {
    files: &[
        SkeletonFile {
            path: "Cargo.toml",
            text: include_str!("../../skeletons/rust/Cargo.toml.txt"),
        },
        SkeletonFile { path: "src/lib.rs", text: include_str!("../../skeletons/rust/lib.rs.txt") },
    ],
    placeholder: "NAME",
    ending: "",
    next: "add it to the members of the workspace, and build it",
};

const C: Skeleton = Skeleton {
    files: &[
        SkeletonFile {
            path: "plugin.c",
            text: include_str!("../../../../plugins/examples/c-count/plugin.c"),
        },
        SkeletonFile { path: "plugin.h", text: include_str!("../../../plugin-api/plugin.h") },
        SkeletonFile {
            path: "Makefile",
            text: include_str!("../../../../plugins/examples/c-count/Makefile"),
        },
    ],
    placeholder: "c-count",
    ending: "",
    next: "make, then isocenter plugin check",
};

const PYTHON: Skeleton = Skeleton {
    files: &[
        SkeletonFile {
            path: "plugin.json",
            text: include_str!("../../../../plugins/examples/python-count.plugin/plugin.json"),
        },
        SkeletonFile {
            path: "main.py",
            text: include_str!("../../../../plugins/examples/python-count.plugin/main.py"),
        },
        SkeletonFile {
            path: "isocenter.py",
            text: include_str!("../../../../plugins/examples/python-count.plugin/isocenter.py"),
        },
    ],
    placeholder: "python-count",
    ending: ".plugin",
    next: "isocenter plugin check the folder",
};

/// Makes the skeleton of a plugin.
fn make(name: &str, language: Language, into: &Path) -> Result<(), Failure> {
    if !is_plugin_name(name) {
        return Err(Failure::new(format!("`{name}`: use small letters, digits and dashes")));
    }
    let skeleton = match language {
        Language::Rust => RUST,
        Language::C => C,
        Language::Python => PYTHON,
    };
    let folder = into.join(format!("{name}{}", skeleton.ending));
    if folder.exists() {
        return Err(Failure::new(format!("`{}` exists already", folder.display())));
    }
    for file in skeleton.files {
        let path = folder.join(file.path);
        let text =
            file.text.replace(skeleton.placeholder, name).replace("SYMBOL", &type_name(name));
        let made = std::fs::create_dir_all(path.parent().unwrap_or(&folder))
            .and_then(|()| std::fs::write(&path, text));
        made.map_err(|error| {
            Failure::from_error(&format!("cannot write `{}`", path.display()), &error)
        })?;
        line(path.display());
    }
    line(format_args!("next: {}", skeleton.next));
    Ok(())
}

fn is_plugin_name(name: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    !name.is_empty() && name.chars().all(is_plain) && !name.starts_with('-')
}

/// `count-series` as `CountSeries`.
fn type_name(name: &str) -> String {
    name.split('-').map(capitalized).collect()
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|it| it.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_type_of_rust() {
        assert_eq!(type_name("count-series"), "CountSeries");
        assert_eq!(type_name("x--9y"), "X9y");
    }

    #[test]
    fn a_name_can_be_that_of_a_crate_and_of_a_folder() {
        for name in ["count", "count-2", "2d"] {
            assert!(is_plugin_name(name), "{name}");
        }
        for name in ["", "-x", "Count", "a/b", "..", "a b", "größe"] {
            assert!(!is_plugin_name(name), "{name}");
        }
    }

    #[test]
    fn every_language_has_a_skeleton_that_names_the_plugin() {
        for skeleton in [RUST, C, PYTHON] {
            let is_named = |it: &SkeletonFile| it.text.contains(skeleton.placeholder);
            assert!(skeleton.files.iter().any(is_named), "{}", skeleton.placeholder);
        }
    }
}
