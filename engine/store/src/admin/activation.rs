//! Which version of a workflow is at work.

use contracts::StoreError;
use domain::{Action, Actor, Event, Subject, WorkflowRef};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::{Error, Result};
use crate::trail::append::append;

/// A line of the history of a workflow.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct ActivationLine {
    /// The workflow.
    pub name: String,
    /// SHA-256 of its file, or nothing if it was turned off.
    pub digest: Option<String>,
    /// When.
    pub at: String,
    /// Who did it.
    pub by: String,
    /// Whether it is what counts now.
    pub is_current: bool,
}

impl PgStore {
    /// The versions that are at work, with their text; and the names of those that were turned off.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn active_workflows(
        &self,
    ) -> std::result::Result<(Vec<(WorkflowRef, String)>, Vec<String>), StoreError> {
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
        let (mut active, mut off) = (Vec::new(), Vec::new());
        for (name, digest, definition) in rows {
            match digest.zip(definition) {
                Some((digest, text)) => active.push((WorkflowRef { name, digest }, text)),
                None => off.push(name),
            }
        }
        Ok((active, off))
    }

    /// A number that grows with every change.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn activation_stamp(&self) -> std::result::Result<i64, StoreError> {
        let row: (i64,) = sqlx::query_as("select coalesce(max(id), 0) from workflow_activation")
            .fetch_one(&self.pool)
            .await
            .map_err(Error::from)?;
        Ok(row.0)
    }

    /// Puts a version to work.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn activate(
        &self,
        reference: &WorkflowRef,
        text: &str,
        actor: Actor,
    ) -> std::result::Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        sqlx::query(
            "insert into workflow_version (name, digest, definition) values ($1, $2, $3)
             on conflict do nothing",
        )
        .bind(&reference.name)
        .bind(&reference.digest)
        .bind(text)
        .execute(&mut *tx)
        .await
        .map_err(Error::from)?;
        let digest = Some(reference.digest.as_str());
        add(&mut tx, "workflow_activated", &reference.name, digest, actor).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(())
    }

    /// Turns a workflow off: it starts no more runs; those it has go on. False if it is not on.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn deactivate(
        &self,
        name: &str,
        actor: Actor,
    ) -> std::result::Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let [Some(_), _] = last_two(&mut tx, name).await? else { return Ok(false) };
        add(&mut tx, "workflow_deactivated", name, None, actor).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(true)
    }

    /// Puts the version before the current one to work again. Gives its digest, if there is one.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn roll_back(
        &self,
        name: &str,
        actor: Actor,
    ) -> std::result::Result<Option<String>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let [_, Some(before)] = last_two(&mut tx, name).await? else { return Ok(None) };
        add(&mut tx, "workflow_rolled_back", name, Some(&before), actor).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(Some(before))
    }

    /// The history of all workflows, newest first.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn activations(
        &self,
        limit: i64,
    ) -> std::result::Result<Vec<ActivationLine>, StoreError> {
        let rows = sqlx::query_as(
            "select name, digest, by,
                to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at,
                id = max(id) over (partition by name) as is_current
             from workflow_activation order by id desc limit $1",
        );
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }
}

/// The version that counts, and the last other one before it.
async fn last_two(tx: &mut PgConnection, name: &str) -> Result<[Option<String>; 2]> {
    // One change after the other.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 11))")
        .bind(name)
        .execute(&mut *tx)
        .await?;
    let rows: Vec<(Option<String>,)> =
        sqlx::query_as("select digest from workflow_activation where name = $1 order by id desc")
            .bind(name)
            .fetch_all(tx)
            .await?;
    let mut digests = rows.into_iter().map(|(it,)| it);
    let current = digests.next().flatten();
    let before = digests.flatten().find(|it| Some(it) != current.as_ref());
    Ok([current, before])
}

async fn add(
    tx: &mut PgConnection,
    kind: &str,
    name: &str,
    digest: Option<&str>,
    actor: Actor,
) -> Result<()> {
    sqlx::query("insert into workflow_activation (name, digest, by) values ($1, $2, $3)")
        .bind(name)
        .bind(digest)
        .bind(&actor.id)
        .execute(&mut *tx)
        .await?;
    let detail = json!({"workflow": name, "digest": digest});
    append(tx, &Event::engine(kind, Action::U, Subject::default(), detail).by(actor)).await?;
    announce(tx, "assembly").await
}
