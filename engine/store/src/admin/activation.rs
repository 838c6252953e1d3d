//! Which version of each workflow is active, and the history of that.

use contracts::WorkKind;
use domain::event::{WorkflowActivated, WorkflowDeactivated, WorkflowRolledBack, WorkflowVersion};
use domain::{Actor, Event, Subject, WorkflowRef};
use serde::Serialize;
use sqlx::PgConnection;

use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Error, Result, StoreResult};
use crate::trail::append::append;

/// A line of the history of a workflow.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct ActivationLine {
    /// The workflow.
    pub name: String,
    /// SHA-256 of its definition in hex; nothing if it was deactivated.
    pub digest: Option<String>,
    /// When, in UTC (RFC 3339).
    pub at: String,
    /// The person who changed it.
    pub by: String,
    /// Whether it is in force now.
    pub is_current: bool,
}

/// The workflows that people have activated or deactivated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowActivations {
    /// The active versions, with their definitions.
    pub active: Vec<(WorkflowRef, String)>,
    /// Names of the workflows that were deactivated.
    pub inactive: Vec<String>,
}

impl PgStore {
    /// The active versions, and the names of the workflows that were deactivated.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn active_workflows(&self) -> StoreResult<WorkflowActivations> {
        let rows: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
            "select a.name, a.digest, v.definition from
                (select distinct on (name) name, digest from workflow_activation
                 order by name, id desc) a
             left join workflow_version v on v.name = a.name and v.digest = a.digest
             order by a.name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(Error::from)?;
        let mut activations = WorkflowActivations::default();
        for (name, digest, definition) in rows {
            match digest.zip(definition) {
                Some((digest, definition)) => {
                    activations.active.push((WorkflowRef { name, digest }, definition));
                }
                None => activations.inactive.push(name),
            }
        }
        Ok(activations)
    }

    /// A number that grows with every activation, deactivation and rollback.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn activation_stamp(&self) -> StoreResult<i64> {
        let query = sqlx::query_scalar("select coalesce(max(id), 0) from workflow_activation");
        Ok(query.fetch_one(&self.pool).await.map_err(Error::from)?)
    }

    /// Activates a version of a workflow.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn activate(
        &self,
        reference: &WorkflowRef,
        definition: &str,
        actor: Actor,
    ) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "insert into workflow_version (name, digest, definition) values ($1, $2, $3)
             on conflict do nothing",
        )
        .bind(&reference.name)
        .bind(&reference.digest)
        .bind(definition)
        .execute(&mut *tx)
        .await
        .map_err(Error::from)?;
        let version = version(&reference.name, Some(&reference.digest));
        let event = Event::new(Subject::default(), WorkflowActivated(version.clone()));
        add(&mut tx, &version, event.by(actor)).await?;
        Ok(commit(tx).await?)
    }

    /// Deactivates a workflow: it starts no more runs, those it has go on. False if it is not
    /// active.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn deactivate(&self, name: &str, actor: Actor) -> StoreResult<bool> {
        let mut tx = self.begin().await?;
        if last_versions(&mut tx, name).await?.current.is_none() {
            return Ok(false);
        }
        let version = version(name, None);
        let event = Event::new(Subject::default(), WorkflowDeactivated(version.clone()));
        add(&mut tx, &version, event.by(actor)).await?;
        commit(tx).await?;
        Ok(true)
    }

    /// Activates the version before the current one again. Returns its digest, if there is one.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn roll_back(&self, name: &str, actor: Actor) -> StoreResult<Option<String>> {
        let mut tx = self.begin().await?;
        let Some(digest) = last_versions(&mut tx, name).await?.previous else { return Ok(None) };
        let version = version(name, Some(&digest));
        let event = Event::new(Subject::default(), WorkflowRolledBack(version.clone()));
        add(&mut tx, &version, event.by(actor)).await?;
        commit(tx).await?;
        Ok(Some(digest))
    }

    /// The history of all workflows, newest first.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn activations(&self, limit: i64) -> StoreResult<Vec<ActivationLine>> {
        let rows = sqlx::query_as(
            "select name, digest, by,
                to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at,
                id = max(id) over (partition by name) as is_current
             from workflow_activation order by id desc limit $1",
        );
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }
}

/// The digests of the versions that a workflow had last.
struct LastVersions {
    /// The active version; nothing if the workflow is inactive.
    current: Option<String>,
    /// The last version that was active before it.
    previous: Option<String>,
}

/// The last versions of a workflow. Locks its history, so that changes come one after the other.
async fn last_versions(tx: &mut PgConnection, name: &str) -> Result<LastVersions> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 11))")
        .bind(name)
        .execute(&mut *tx)
        .await?;
    let history: Vec<Option<String>> = sqlx::query_scalar(
        "select digest from workflow_activation where name = $1 order by id desc",
    )
    .bind(name)
    .fetch_all(tx)
    .await?;
    let mut digests = history.into_iter();
    let current = digests.next().flatten();
    let previous = digests.flatten().find(|it| Some(it) != current.as_ref());
    Ok(LastVersions { current, previous })
}

fn version(name: &str, digest: Option<&str>) -> WorkflowVersion {
    WorkflowVersion { workflow: name.to_owned(), digest: digest.map(ToOwned::to_owned) }
}

/// Adds a line to the history. Without a digest, the workflow is inactive from then on.
async fn add(tx: &mut PgConnection, version: &WorkflowVersion, event: Event) -> Result<()> {
    sqlx::query("insert into workflow_activation (name, digest, by) values ($1, $2, $3)")
        .bind(&version.workflow)
        .bind(&version.digest)
        .bind(&event.actor.id)
        .execute(&mut *tx)
        .await?;
    append(tx, &event).await?;
    notify(tx, WorkKind::Assembly).await
}
