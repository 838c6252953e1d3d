//! A site read for checking, with its data in a folder that is thrown away.

use std::path::{Path, PathBuf};

use crate::installation::Installation;
use crate::output::Failure;
use crate::site::Site;
use crate::site_args::SiteArgs;

/// A temporary folder that is removed when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("isocenter-check-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::from_error("cannot make a folder", &error))?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary folder, which the system empties.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A site, and the folder its plugins and archive use while it is checked.
pub(super) struct ScratchSite {
    pub(super) site: Site,
    _folder: Scratch,
}

impl ScratchSite {
    /// Reads a site without touching its data, which a running engine may be using. Without a site
    /// file, the destinations that its workflows and `more` name are assumed to exist.
    pub(super) async fn read(
        installation: &Installation,
        arguments: &SiteArgs,
        more: &[&str],
    ) -> Result<Self, Failure> {
        let folder = Scratch::new()?;
        let mut arguments = SiteArgs { allow_unsigned: true, ..arguments.clone() };
        if installation.arguments.config.is_none() && arguments.folder.is_none() {
            arguments.folder = Some(folder.path().join("folder"));
        }
        let installation = installation.with_data(folder.path().to_owned());
        let site = Site::read(&installation, &arguments, more).await?;
        Ok(Self { site, _folder: folder })
    }
}
