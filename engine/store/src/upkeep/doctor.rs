//! What the database holds that cannot be, and what is done about it.
//!
//! What can be put right without losing anything is put right; what cannot is noted in the trail and given
//! to a person, once, and counts as dealt with from then on.

use contracts::{NewTask, StoreError};
use domain::{Action, Actor, Event, Outcome, Subject, TaskKind};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::{Error, Result};
use crate::run::task;
use crate::trail::append::append;
use crate::vault::payload;

mod checks;

use checks::{CHECKS, GUARDS, Remedy};

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub is_good: bool,
    /// What was found, and what to do about it.
    pub found: String,
}

impl Check {
    /// A thing of which so many are wrong.
    pub fn counted(name: &'static str, wrong: usize, advice: &str) -> Self {
        let found = if wrong == 0 { "yes".to_owned() } else { format!("{wrong}: {advice}") };
        Self { name, is_good: wrong == 0, found }
    }
}

/// An instance that is to be had, as the database has it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct FiledInstance {
    /// SHA-256 of its data set: the name of its file.
    pub sha256: String,
    /// Length of its data set.
    pub bytes: i64,
}

impl PgStore {
    /// Compares the projections with the trail, and looks for missing guards and for what hangs.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn examine(&self) -> std::result::Result<Vec<Check>, StoreError> {
        let mut checks = Vec::new();
        for check in CHECKS {
            let (count,): (i64,) =
                sqlx::query_as(check.count).fetch_one(&self.pool).await.map_err(Error::from)?;
            let wrong = usize::try_from(count).unwrap_or_default();
            checks.push(Check::counted(check.name, wrong, check.advice));
        }
        Ok(checks)
    }

    /// Does about what [`examine`](Self::examine) finds what can be done, and puts it on record.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn repair(&self, by: &Actor) -> std::result::Result<(), StoreError> {
        for check in CHECKS {
            match check.remedy {
                Remedy::None => {}
                Remedy::Change(statement) => self.change(check.name, statement, by).await?,
                Remedy::Note(query) => self.note(check.name, check.advice, query, by).await?,
            }
        }
        Ok(())
    }

    async fn change(&self, name: &str, statement: &'static str, by: &Actor) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let count = sqlx::query(statement).execute(&mut *tx).await?.rows_affected();
        if count > 0 {
            let detail = json!({"check": name, "count": count});
            let event = Event::engine("damage_repaired", Action::U, Subject::default(), detail);
            append(&mut tx, &event.by(by.clone())).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Notes what differs: study, instance and run of each.
    async fn note(&self, name: &str, advice: &str, query: &'static str, by: &Actor) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let rows: Vec<(Option<String>, Option<String>, Option<Uuid>)> =
            sqlx::query_as(query).fetch_all(&mut *tx).await?;
        for (study, instance, run) in &rows {
            let subject = Subject {
                study: study.clone(),
                instance: instance.clone(),
                run: *run,
                ..Subject::default()
            };
            note(&mut tx, name, advice, subject, by).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The instances whose files should be there.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn filed_instances(&self) -> std::result::Result<Vec<FiledInstance>, StoreError> {
        let query =
            "select distinct on (sha256) sha256, bytes from instance where not is_file_gone";
        Ok(sqlx::query_as(query).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Takes instances out of use whose file is not what it was. If one comes again, it is taken in again.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn isolate(
        &self,
        sha256: &str,
        why: &'static str,
        by: &Actor,
    ) -> std::result::Result<(), StoreError> {
        Ok(self.isolate_rows(sha256, why, by).await?)
    }

    async fn isolate_rows(&self, sha256: &str, why: &'static str, by: &Actor) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "update instance set removed_at = coalesce(removed_at, clock_timestamp()), is_file_gone = true
             where sha256 = $1 and not is_file_gone returning study, uid",
        )
        .bind(sha256)
        .fetch_all(&mut *tx)
        .await?;
        for (study, instance) in rows {
            let subject =
                Subject { study: Some(study), instance: Some(instance), ..Subject::default() };
            let advice = "an image cannot be used: have it sent again";
            note(&mut tx, why, advice, subject, by).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Messages whose bytes are not those that came: reads and decrypts every one.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn altered_messages(&self) -> std::result::Result<Vec<Uuid>, StoreError> {
        Ok(self.altered_message_rows().await?)
    }

    async fn altered_message_rows(&self) -> Result<Vec<Uuid>> {
        let (mut altered, mut last) = (Vec::new(), Uuid::nil());
        let mut connection = self.pool.acquire().await?;
        loop {
            let rows: Vec<(Uuid, String, Uuid)> = sqlx::query_as(
                "select id, sha256, raw from message where id > $1 order by id limit 100",
            )
            .bind(last)
            .fetch_all(&mut *connection)
            .await?;
            for (id, sha256, raw) in &rows {
                let read = match payload::read(&mut connection, &self.keys, *raw).await {
                    Err(error @ Error::Sql(_)) => return Err(error),
                    read => read,
                };
                // What was destroyed on purpose is no damage.
                let is_whole = read.is_ok_and(|it| it.is_none_or(|it| digest(&it) == *sha256));
                if !is_whole {
                    altered.push(*id);
                }
            }
            match rows.last() {
                Some((id, ..)) => last = *id,
                None => return Ok(altered),
            }
        }
    }

    /// Puts on record that something is wrong with `subject`, or with all, and gives it to a person.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn note_damage(
        &self,
        name: &str,
        advice: &str,
        subject: Subject,
        by: &Actor,
    ) -> std::result::Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        note(&mut tx, name, advice, subject, by).await?;
        Ok(tx.commit().await.map_err(Error::from)?)
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

async fn note(
    tx: &mut PgConnection,
    name: &str,
    advice: &str,
    subject: Subject,
    by: &Actor,
) -> Result<()> {
    let event = Event::engine("damage_noted", Action::E, subject.clone(), json!({"check": name}));
    append(tx, &event.by(by.clone()).ended(Outcome::SeriousFailure)).await?;
    let reason = format!("{name}: not so; {advice}");
    task::open_once(tx, &NewTask { kind: TaskKind::Damage, subject, reason }).await
}

/// Sets up again what keeps the trail from being changed, as the owner of the database.
///
/// # Errors
///
/// Fails if the database does, or does not let this user.
pub async fn restore_guards(owner: PgConnectOptions) -> std::result::Result<(), StoreError> {
    let restored = async {
        let mut connection = PgConnection::connect_with(&owner).await?;
        sqlx::raw_sql(GUARDS).execute(&mut connection).await?;
        connection.close().await
    };
    Ok(restored.await.map_err(Error::from)?)
}
