//! Plugins: shown, made, checked and signed.

use std::path::{Path, PathBuf};

use plugin_host::{Trust, sign};

use crate::args::{Place, PluginCommand, PluginLanguage};
use crate::commands::check::{Scratch, plugins};
use crate::config::Config;
use crate::output::{Failure, line};
use crate::site::open_host;

/// A file of a skeleton: its name, and what is in it. `NAME` stands for the plugin's name,
/// `SYMBOL` for the same as a type of Rust.
type Skeleton = &'static [(&'static str, &'static str)];

const RUST: Skeleton = &[
    ("Cargo.toml", include_str!("../../skeletons/rust/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("../../skeletons/rust/lib.rs.txt")),
];

const C: Skeleton = &[
    ("plugin.c", include_str!("../../../../plugins/examples/c-count/plugin.c")),
    ("plugin.h", include_str!("../../../plugin-api/plugin.h")),
    ("Makefile", include_str!("../../../../plugins/examples/c-count/Makefile")),
];

const PYTHON: Skeleton = &[
    ("plugin.json", include_str!("../../../../plugins/examples/python-count.plugin/plugin.json")),
    ("main.py", include_str!("../../../../plugins/examples/python-count.plugin/main.py")),
    ("isocenter.py", include_str!("../../../../plugins/examples/python-count.plugin/isocenter.py")),
];

pub(crate) async fn plugin(command: PluginCommand) -> Result<(), Failure> {
    match command {
        PluginCommand::List { plugins: folder, json } => plugins(folder, json).await,
        PluginCommand::New { name, language, into } => new(&name, language, &into),
        PluginCommand::Check { plugin, place } => check(&plugin, &place).await,
        PluginCommand::Sign { plugins, place } => {
            let data = Config::read(&place)?.data(&place);
            let apart = data.join("signatures");
            let key = store::plugin_key(&data.join("keys"))
                .map_err(|error| Failure::from_error("cannot open the keys", &error))?;
            for plugin in plugins {
                let (name, version) = loaded(&plugin, Trust::Anyone).await?;
                let path = sign(&plugin, (&name, &version), &key, &apart).map_err(|error| {
                    Failure::from_error(&format!("cannot sign `{}`", plugin.display()), &error)
                })?;
                line(format_args!("{name} {version} is signed: {}", path.display()));
            }
            Ok(())
        }
    }
}

/// Says whether a plugin can be used, and whether this site has signed it.
async fn check(plugin: &Path, place: &Place) -> Result<(), Failure> {
    let (name, version) = loaded(plugin, Trust::Anyone).await?;
    line(format_args!("{name} {version}: it loads, describes itself and answers"));
    let config = Config::read(place)?;
    let data = config.data(place);
    let keys = data.join("keys");
    if !keys.join("plugins.key").exists() {
        line("whether it is signed shows against the data folder of a site: --data or --config");
        return Ok(());
    }
    let key = store::plugin_key(&keys)
        .map_err(|error| Failure::from_error("cannot open the keys", &error))?;
    let (keys, signatures) = (vec![key.verifying_key()], data.join("signatures"));
    loaded(plugin, Trust::Signed { keys, inline: Vec::new(), signatures }).await?;
    line("this site has signed it as it is");
    Ok(())
}

/// Loads one plugin as the engine would. Gives its name and version.
async fn loaded(plugin: &Path, trust: Trust) -> Result<(String, String), Failure> {
    let scratch = Scratch::new()?;
    let folder = plugin.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !plugin.exists() {
        return Err(Failure::new(format!("there is no `{}`", plugin.display())));
    }
    let alone = scratch.path().join("alone");
    let name = plugin.file_name().unwrap_or_default();
    let failed = |error: &std::io::Error| {
        Failure::from_error(&format!("cannot read `{}`", plugin.display()), error)
    };
    std::fs::create_dir_all(&alone).map_err(|error| failed(&error))?;
    let signature = format!("{}.signed.json", name.to_string_lossy());
    for file in [PathBuf::from(name), PathBuf::from(signature)] {
        let source = std::path::absolute(folder.join(&file)).map_err(|error| failed(&error))?;
        std::os::unix::fs::symlink(source, alone.join(file)).map_err(|error| failed(&error))?;
    }
    let (_, host) = open_host(scratch.path(), &alone, trust).await?;
    match (host.plugins().first(), host.refused().first()) {
        (Some(it), _) => Ok((it.pin.name.clone(), it.pin.version.clone())),
        (None, Some((_, why))) => Err(Failure::new(format!("`{}`: {why}", plugin.display()))),
        (None, None) => Err(Failure::new(format!(
            "`{}` is neither a library that ends in .so nor a folder that ends in .plugin and \
             holds plugin.json",
            plugin.display()
        ))),
    }
}

/// Makes the skeleton of a plugin.
fn new(name: &str, language: PluginLanguage, into: &Path) -> Result<(), Failure> {
    let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    if name.is_empty() || !name.chars().all(is_plain) || name.starts_with('-') {
        return Err(Failure::new(format!("`{name}`: use small letters, digits and dashes")));
    }
    let (skeleton, folder, example, next) = match language {
        PluginLanguage::Rust => {
            (RUST, name.to_owned(), "NAME", "add it to the members of the workspace, and build it")
        }
        PluginLanguage::C => (C, name.to_owned(), "c-count", "make, then isocenter plugin check"),
        PluginLanguage::Python => {
            (PYTHON, format!("{name}.plugin"), "python-count", "isocenter plugin check the folder")
        }
    };
    let folder = into.join(folder);
    if folder.exists() {
        return Err(Failure::new(format!("`{}` is there already", folder.display())));
    }
    for (file, text) in skeleton {
        let path = folder.join(file);
        let text = text.replace(example, name).replace("SYMBOL", &type_name(name));
        let made = std::fs::create_dir_all(path.parent().unwrap_or(&folder))
            .and_then(|()| std::fs::write(&path, text));
        made.map_err(|error| {
            Failure::from_error(&format!("cannot write `{}`", path.display()), &error)
        })?;
        line(path.display());
    }
    line(format_args!("next: {next}"));
    Ok(())
}

/// `count-series` as `CountSeries`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|it| it.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}
