//! `cargo stage FOLDER`: a staged installation, as packagers know it from `DESTDIR`.
//!
//! Below FOLDER lies what a machine or a container image needs beyond Debian's packages: the program,
//! every plugin of the workspace with a signature, the public key that the signatures are checked
//! with, the workflows, and a site file that names all of them. The container file copies the
//! folder as it is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::workspace::{fill_plugin_folder, program};
use crate::{Outcome, build_engine, root, run};

/// Where the plugins lie.
const PLUGINS: &str = "usr/lib/isocenter/plugins";

/// Where the site file, the workflows and the key lie.
const CONFIGURATION: &str = "etc/isocenter";

/// Builds, and fills the folder that the arguments name. `--release` builds for production.
pub(crate) fn stage(arguments: &[String]) -> Outcome {
    let is_release = arguments.iter().any(|it| it == "--release");
    let folder = arguments.iter().find(|it| !it.starts_with("--"));
    let folder = folder.ok_or("name the folder: `cargo stage FOLDER [--release]`")?;
    let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
    let (flags, profile) =
        if is_release { (&["--locked", "--release"][..], "release") } else { (&[][..], "debug") };
    build_engine(flags)?;
    let plugins = folder.join(PLUGINS);
    fill_plugin_folder(&plugins, Path::new(profile))?;
    let isocenter = folder.join("usr/bin/isocenter");
    copy(&program(profile), &isocenter)?;
    let configuration = folder.join(CONFIGURATION);
    for file in files_in(&root().join("workflows"), "yaml")? {
        let name = file.file_name().unwrap_or_default();
        copy(&file, &configuration.join("workflows").join(name))?;
    }
    let site = root().join("engine/server/packaging/isocenter.yaml");
    copy(&site, &configuration.join("isocenter.yaml"))?;
    sign(&isocenter, &plugins, &configuration.join("plugins.pub"))
}

/// Signs the plugins with a key that is made for this build and thrown away. Only its public half
/// is part of the installation, where the site file trusts it.
fn sign(isocenter: &Path, plugins: &Path, public_key: &Path) -> Outcome {
    let scratch = std::env::temp_dir().join(format!("isocenter-stage-{}", std::process::id()));
    let mut sign = Command::new(isocenter);
    sign.args(["plugin", "sign", "--data"]).arg(&scratch).args(files_in(plugins, "so")?);
    let signed = run(sign.stdout(Stdio::null()))
        .and_then(|()| copy(&scratch.join("keys/plugins.pub"), public_key));
    // The private key must not outlive the build; a folder that is not there is as good.
    _ = fs::remove_dir_all(&scratch);
    signed
}

/// The files of a folder that end so, sorted.
fn files_in(folder: &Path, extension: &str) -> Result<Vec<std::path::PathBuf>, String> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == extension));
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let copied = fs::create_dir_all(to.parent().unwrap_or(to)).and_then(|()| fs::copy(from, to));
    copied
        .map(|_| ())
        .map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))
}
