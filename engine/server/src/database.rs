//! How a command gets to the database, whether the engine runs or not.
//!
//! A site names a PostgreSQL of its own, or the engine runs a private cluster in the data folder. A
//! command that comes while the engine runs uses the cluster of the engine, and waits for it if it
//! does not answer yet; otherwise the command starts the cluster, and the last command stops it
//! again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use store::cluster::Cluster;
use store::{Authorities, IdentityDomains, Keys, PgStore};

use crate::database_users::DatabaseUser;
use crate::engine_lock;
use crate::output::Failure;

/// `identity:` of the site file: who issues patient identifiers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IdentityConfig {
    /// How many authorities there are.
    domains: Domains,
    /// The authority that is meant where none is named. Without it, an identifier without an
    /// authority is its sender's own.
    default_issuer: Option<String>,
    /// The authority of identifiers that name none, by sender: calling AE title, sending
    /// application, or `APPLICATION|FACILITY`.
    senders: BTreeMap<String, String>,
    /// Names of authorities, by the OID under which some senders know them. An OID that is not
    /// listed is an authority of its own.
    names: BTreeMap<String, String>,
}

/// How many authorities issue the patient identifiers of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Domains {
    /// One: an identifier means the same patient whichever issuer is named.
    Single,
    /// Several.
    #[default]
    Many,
}

impl IdentityConfig {
    /// The same as the store understands it.
    pub(crate) fn domains(&self) -> IdentityDomains {
        match self.domains {
            Domains::Single => IdentityDomains::Single,
            Domains::Many => IdentityDomains::Many(Authorities {
                default_issuer: self.default_issuer.clone(),
                senders: self.senders.clone(),
                names: self.names.clone(),
            }),
        }
    }

    /// The issuer that is meant where none is named; empty if there is none.
    pub(crate) fn default_issuer(&self) -> &str {
        self.default_issuer.as_deref().unwrap_or_default()
    }

    /// What is wrong beyond the form.
    pub(crate) fn problem(&self) -> Option<String> {
        let has_authorities =
            self.default_issuer.is_some() || !self.senders.is_empty() || !self.names.is_empty();
        if self.domains == Domains::Single && has_authorities {
            let text = "`single` ignores every authority: leave the others out, or write `many`";
            return Some(format!("identity: {text}"));
        }
        let mut issuers =
            self.default_issuer.iter().chain(self.senders.values()).chain(self.names.values());
        let is_empty = issuers.any(|it| it.trim().is_empty());
        is_empty.then(|| "identity: an authority has no name".to_owned())
    }
}

/// Where the database of a site is.
pub(crate) struct DatabaseLocation<'a> {
    /// The URL of a PostgreSQL of the site. Without it, and without `DATABASE_URL` in the
    /// environment, the private cluster is meant.
    pub(crate) url: Option<&'a str>,
    /// The data folder, with the keys and the private cluster.
    pub(crate) data: &'a Path,
    /// The folder with the programs of PostgreSQL, if they are not in the usual place.
    pub(crate) pg_bin: Option<&'a Path>,
}

/// Who opens a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opener {
    /// The engine, which has locked the data folder.
    Engine,
    /// A command, beside an engine or without one.
    Command,
}

impl Opener {
    /// Whether the private cluster of a data folder is started and stopped by another process.
    fn is_beside_engine(self, data: &Path) -> bool {
        self == Self::Command && engine_lock::is_locked(data)
    }
}

/// An open database, and the cluster that was started for it.
pub(crate) struct Database {
    /// The store, connected as the engine's user.
    pub(crate) store: Arc<PgStore>,
    /// The private cluster, if the site has no PostgreSQL of its own.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// How to connect as the owner of the database.
    pub(crate) owner: PgConnectOptions,
    /// Keeps others from stopping the private cluster.
    pub(crate) user: Option<DatabaseUser>,
    opener: Opener,
    /// The data folder.
    data: PathBuf,
}

impl Database {
    /// Opens a database, and brings its tables up to date.
    pub(crate) async fn open(
        location: DatabaseLocation<'_>,
        opener: Opener,
    ) -> Result<Self, Failure> {
        let data = location.data;
        std::fs::create_dir_all(data).map_err(|error| {
            let what = format!("cannot make the data folder `{}`", data.display());
            Failure::from_error(&what, &error)
        })?;
        let keys = Keys::open(&data.join("keys"))
            .map_err(|error| Failure::from_error("cannot open the keys", &error))?;
        let server = Server::find(&location, opener).await?;
        match server.connect(keys).await {
            Ok(store) => {
                let Server { cluster, user, owner, .. } = server;
                let data = data.to_owned();
                Ok(Self { store: Arc::new(store), cluster, owner, user, opener, data })
            }
            Err(failure) => {
                stop(server.cluster, server.user, opener, data).await;
                Err(failure)
            }
        }
    }

    /// Closes it. The last user stops the private cluster; one that an engine has taken over
    /// meanwhile keeps running.
    pub(crate) async fn close(self) {
        self.store.close().await;
        stop(self.cluster, self.user, self.opener, &self.data).await;
    }
}

/// Stops the private cluster, if nobody else uses it.
async fn stop(
    cluster: Option<Arc<Cluster>>,
    user: Option<DatabaseUser>,
    opener: Opener,
    data: &Path,
) {
    if let Some(cluster) = cluster
        && user.as_ref().is_some_and(DatabaseUser::is_last)
        && !opener.is_beside_engine(data)
    {
        cluster.stop().await;
    }
}

/// A PostgreSQL that can be connected to.
struct Server {
    /// The private cluster, if it is one.
    cluster: Option<Arc<Cluster>>,
    /// Keeps others from stopping the private cluster.
    user: Option<DatabaseUser>,
    /// How to connect as the owner of the database.
    owner: PgConnectOptions,
    /// How to connect as the user the engine works as.
    engine: PgConnectOptions,
}

impl Server {
    /// The PostgreSQL of the site, or else the private cluster of the data folder, started if need
    /// be.
    async fn find(location: &DatabaseLocation<'_>, opener: Opener) -> Result<Self, Failure> {
        let url = location.url.map(str::to_owned);
        match url.or_else(|| std::env::var("DATABASE_URL").ok()) {
            Some(url) => Self::of_site(&url),
            None => Self::private(location.data, location.pg_bin, opener).await,
        }
    }

    fn of_site(url: &str) -> Result<Self, Failure> {
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error: sqlx::Error| Failure::from_error("the database URL", &error))?;
        Ok(Self { cluster: None, user: None, owner: options.clone(), engine: options })
    }

    async fn private(data: &Path, pg_bin: Option<&Path>, opener: Opener) -> Result<Self, Failure> {
        let user = DatabaseUser::begin(data).await?;
        let cluster = Cluster::start_beside(data, pg_bin, || opener.is_beside_engine(data))
            .await
            .map_err(|error| Failure::from_error("cannot start the database", &error))?;
        let owner = cluster.admin();
        let engine = cluster.app();
        Ok(Self { cluster: Some(Arc::new(cluster)), user: Some(user), owner, engine })
    }

    async fn connect(&self, keys: Keys) -> Result<PgStore, Failure> {
        store::prepare(self.owner.clone())
            .await
            .map_err(|error| Failure::from_error("cannot prepare the database", &error))?;
        PgStore::open(self.engine.clone(), Arc::new(keys))
            .await
            .map_err(|error| Failure::from_error("cannot open the database", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<IdentityConfig, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn din_60_one_authority_has_to_be_said() {
        let config = parse("{ domains: single }").unwrap();
        assert_eq!(config.default_issuer(), "");
        assert_eq!((config.domains(), config.problem()), (IdentityDomains::Single, None));
        let unsaid = IdentityConfig::default();
        assert_eq!(unsaid.domains(), IdentityDomains::Many(Authorities::default()));
    }

    #[test]
    fn din_60_several_authorities_are_told_apart_as_the_site_says() {
        let text = "{ default_issuer: HOSP, senders: { LIS: LAB }, names: { 1.2.3.111: LAB } }";
        let config = parse(text).unwrap();
        assert_eq!(config.default_issuer(), "HOSP");
        let IdentityDomains::Many(authorities) = config.domains() else { panic!() };
        assert_eq!(authorities.names.get("1.2.3.111").map(String::as_str), Some("LAB"));
        assert_eq!(authorities.senders.get("LIS").map(String::as_str), Some("LAB"));
        assert!(parse("{ domains: some }").is_err());
        assert!(parse("{ issuer: HOSP }").is_err());
        for text in ["{ domains: single, default_issuer: HOSP }", "{ default_issuer: '' }"] {
            assert!(parse(text).unwrap().problem().is_some(), "{text}");
        }
    }

    #[tokio::test]
    async fn acc_04_the_cluster_beside_an_engine_is_not_the_commands_to_start_or_stop() {
        let data = std::env::temp_dir().join(format!("isocenter-beside-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&data).unwrap();
        assert!(!Opener::Command.is_beside_engine(&data));
        let lock = engine_lock::lock(&data).await.unwrap();
        assert!(Opener::Command.is_beside_engine(&data));
        assert!(!Opener::Engine.is_beside_engine(&data));
        drop(lock);
        std::fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn a_site_with_its_own_postgresql_needs_no_cluster() {
        let server = Server::of_site("postgres://isocenter@db.example:6000/images").unwrap();
        assert!(server.cluster.is_none());
        assert_eq!(server.engine.get_host(), "db.example");
        assert_eq!(server.owner.get_port(), 6000);
        assert!(Server::of_site("no url").is_err());
    }
}
