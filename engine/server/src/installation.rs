//! The installation a command works on: its site file, read once, and the folder with its data.
//!
//! Every command starts by reading its [`InstallationArgs`]. The [`Installation`] that comes out is
//! handed on; nothing below it reads the site file again, but [`crate::reload`], which does so on
//! purpose.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use contracts::StoreError;
use store::PgStore;

use crate::config::Config;
use crate::database::{Database, DatabaseLocation, Opener};
use crate::output::Failure;

/// Where the data folder is unless the command line or the site file names another.
const DATA_DEFAULT: &str = "/var/lib/isocenter";

/// Which installation a command works on.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct InstallationArgs {
    /// The site file.
    #[arg(long, global = true)]
    pub(crate) config: Option<PathBuf>,
    /// The folder for everything the engine stores.
    #[arg(long, global = true)]
    pub(crate) data: Option<PathBuf>,
    /// The folder with the programs of PostgreSQL.
    #[arg(long, global = true)]
    pub(crate) pg_bin: Option<PathBuf>,
}

impl InstallationArgs {
    /// Reads the site file, if there is one.
    pub(crate) fn read(&self) -> Result<Installation, Failure> {
        let text = self.site_file_text()?;
        let config = match &self.config {
            None => Config::default(),
            Some(path) => Config::parse(&text).map_err(|problem| {
                Failure::new(format!("the site file `{}`: {problem}", path.display()))
                    .with_hint("`isocenter check --config FILE` shows every problem of a site file")
            })?,
        };
        let data = self.data_folder(&config);
        Ok(Installation { config: Arc::new(config), data, text, arguments: self.clone() })
    }

    /// Opens the database, has `ask` ask it something, and closes it again.
    pub(crate) async fn with_store<T>(
        &self,
        ask: impl AsyncFnOnce(&Arc<PgStore>) -> T,
    ) -> Result<T, Failure> {
        self.read()?.with_store(ask).await
    }

    /// The same for a question that fails only if the database does.
    pub(crate) async fn query<T>(
        &self,
        ask: impl AsyncFnOnce(&Arc<PgStore>) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        self.with_store(ask).await?.map_err(|error| Failure::database(&error))
    }

    fn site_file_text(&self) -> Result<String, Failure> {
        let Some(path) = &self.config else { return Ok(String::new()) };
        std::fs::read_to_string(path).map_err(|error| {
            Failure::from_error(&format!("cannot read the site file `{}`", path.display()), &error)
        })
    }

    /// The data folder: of the command line, of the site file, or the default one. Absolute,
    /// because plugins and the database work in folders of their own.
    fn data_folder(&self, config: &Config) -> PathBuf {
        let named = self.data.clone().or_else(|| config.data.clone());
        let folder = named.unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
        std::path::absolute(&folder).unwrap_or(folder)
    }
}

/// How to show a list.
#[derive(Args, Clone)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) installation: InstallationArgs,
    /// Show it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The greatest number of lines.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: i64,
}

/// An installation whose site file has been read.
#[derive(Clone)]
pub(crate) struct Installation {
    /// What the site file says.
    pub(crate) config: Arc<Config>,
    /// The folder for everything the engine stores.
    pub(crate) data: PathBuf,
    /// The text of the site file, to notice when it changes.
    pub(crate) text: String,
    /// What the command line said.
    pub(crate) arguments: InstallationArgs,
}

impl Installation {
    /// The same site with its data in another folder, to check it without touching its data.
    pub(crate) fn with_data(&self, data: PathBuf) -> Self {
        Self { data, ..self.clone() }
    }

    /// The site file as it is now. Empty, if it cannot be read: it may be just being written.
    pub(crate) fn text_now(&self) -> String {
        self.arguments.site_file_text().unwrap_or_default()
    }

    /// The installation as its site file describes it now, with its data where they are.
    pub(crate) fn read_again(&self) -> Result<Self, Failure> {
        Ok(self.arguments.read()?.with_data(self.data.clone()))
    }

    /// Opens the database.
    pub(crate) async fn open_database(&self, opener: Opener) -> Result<Database, Failure> {
        let location = DatabaseLocation {
            url: self.config.database.as_deref(),
            data: &self.data,
            pg_bin: self.arguments.pg_bin.as_deref(),
        };
        Database::open(location, opener).await
    }

    /// Opens the database, has `ask` ask it something, and closes it again.
    pub(crate) async fn with_store<T>(
        &self,
        ask: impl AsyncFnOnce(&Arc<PgStore>) -> T,
    ) -> Result<T, Failure> {
        let database = self.open_database(Opener::Command).await?;
        let answer = ask(&database.store).await;
        database.close().await;
        Ok(answer)
    }

    /// The same for a question that fails only if the database does.
    pub(crate) async fn query<T>(
        &self,
        ask: impl AsyncFnOnce(&Arc<PgStore>) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        self.with_store(ask).await?.map_err(|error| Failure::database(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn scratch_file(text: &str) -> PathBuf {
        let name = format!("isocenter-site-{}.yaml", uuid::Uuid::now_v7());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_data_folder_beside_us_is_named_from_the_root() {
        let arguments =
            InstallationArgs { data: Some(PathBuf::from("data")), ..InstallationArgs::default() };
        let data = arguments.read().unwrap().data;
        assert!(data.is_absolute() && data.ends_with("data"), "{}", data.display());
    }

    #[test]
    fn the_command_line_names_the_data_folder_before_the_site_file_does() {
        let path = scratch_file("data: /srv/site");
        let arguments =
            InstallationArgs { config: Some(path.clone()), ..InstallationArgs::default() };
        assert_eq!(arguments.read().unwrap().data, Path::new("/srv/site"));
        let arguments = InstallationArgs { data: Some("/srv/flag".into()), ..arguments };
        assert_eq!(arguments.read().unwrap().data, Path::new("/srv/flag"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn without_any_file_the_default_folder_is_meant() {
        let installation = InstallationArgs::default().read().unwrap();
        assert_eq!(installation.data, Path::new(DATA_DEFAULT));
        assert_eq!(installation.text, "");
    }

    #[test]
    fn a_site_file_that_is_not_there_or_not_sound_is_named() {
        let missing = InstallationArgs {
            config: Some("/nowhere/site.yaml".into()),
            ..InstallationArgs::default()
        };
        assert!(missing.read().err().unwrap().text().contains("/nowhere/site.yaml"));
        let path = scratch_file("databse: x");
        let unsound =
            InstallationArgs { config: Some(path.clone()), ..InstallationArgs::default() };
        let failure = unsound.read().err().unwrap();
        assert!(failure.text().contains(&path.display().to_string()), "{}", failure.text());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_changed_site_file_is_read_again_with_the_same_data_folder() {
        let path = scratch_file("data: /srv/one");
        let arguments =
            InstallationArgs { config: Some(path.clone()), ..InstallationArgs::default() };
        let installation = arguments.read().unwrap();
        std::fs::write(&path, "data: /srv/two\nlog: json").unwrap();
        assert_ne!(installation.text_now(), installation.text);
        let again = installation.read_again().unwrap();
        assert_eq!(again.data, Path::new("/srv/one"));
        assert_ne!(again.config.log, installation.config.log);
        std::fs::remove_file(path).unwrap();
    }
}
