//! How a command comes to the database, whether the engine runs or not.

use std::path::Path;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use store::cluster::Cluster;
use store::{IdentityDomains, Keys, PgStore};

use crate::args::Place;
use crate::config::Config;
use crate::output::Failure;

/// An open database, and the cluster that had to be started for it.
pub(crate) struct Opened {
    pub(crate) store: Arc<PgStore>,
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// How to own the database, where that is known.
    pub(crate) owner: Option<PgConnectOptions>,
}

impl Opened {
    /// Opens the database of a site.
    pub(crate) async fn open(place: &Place) -> Result<Self, Failure> {
        let config = Config::read(place)?;
        let data = config.data(place);
        Self::open_in(&config, place, &data).await
    }

    /// Opens the database of a site whose file has been read.
    pub(crate) async fn open_in(
        config: &Config,
        place: &Place,
        data: &Path,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(data).map_err(|error| {
            Failure::from_error(
                &format!("cannot make the data folder `{}`", data.display()),
                &error,
            )
        })?;
        let keys = Keys::open(&data.join("keys"))
            .map_err(|error| Failure::from_error("cannot open the keys", &error))?;
        let (cluster, owner, app) = database(config, place, data).await?;
        let domains = IdentityDomains::from(&config.identity);
        match connected(owner.clone(), app, keys, domains).await {
            Ok(store) => Ok(Self { store: Arc::new(store), cluster, owner }),
            Err(failure) => {
                if let Some(cluster) = cluster.filter(|it| it.is_ours()) {
                    cluster.stop().await;
                }
                Err(failure)
            }
        }
    }

    /// Closes it. A cluster that was started for it is stopped; one that ran before goes on.
    pub(crate) async fn close(self) {
        self.store.close().await;
        if let Some(cluster) = self.cluster
            && cluster.is_ours()
        {
            cluster.stop().await;
        }
    }
}

async fn connected(
    owner: Option<PgConnectOptions>,
    app: PgConnectOptions,
    keys: Keys,
    domains: IdentityDomains,
) -> Result<PgStore, Failure> {
    if let Some(owner) = owner {
        let prepared = store::prepare(owner).await;
        prepared.map_err(|error| Failure::from_error("cannot prepare the database", &error))?;
    }
    let opened = PgStore::open(app, Arc::new(keys), domains).await;
    opened.map_err(|error| Failure::from_error("cannot open the database", &error))
}

type Database = (Option<Arc<Cluster>>, Option<PgConnectOptions>, PgConnectOptions);

/// The cluster, if it is a private one; how to own the database, and how to work in it.
async fn database(config: &Config, place: &Place, data: &Path) -> Result<Database, Failure> {
    let url = config.database.clone().or_else(|| std::env::var("DATABASE_URL").ok());
    if let Some(url) = url {
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error: sqlx::Error| Failure::from_error("the database URL", &error))?;
        return Ok((None, Some(options.clone()), options));
    }
    let cluster = Cluster::start(data, place.pg_bin.as_deref())
        .await
        .map_err(|error| Failure::from_error("cannot start the database", &error))?;
    let (owner, app) = (cluster.admin(), cluster.app());
    Ok((Some(Arc::new(cluster)), Some(owner), app))
}
