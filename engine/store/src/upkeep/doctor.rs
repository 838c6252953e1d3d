//! Integrity checks of the database, and repairs.
//!
//! A repair puts right what it can without losing anything. The rest is reported in the trail and
//! given to a person as a task, once; from then on it counts as dealt with.

use contracts::NewTask;
use domain::event::{DamageNoted, DamageRepaired};
use domain::{Actor, Event, Outcome, Subject, TaskKind};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::database::decode;
use crate::database::pg_store::{PgStore, commit};
use crate::database::prepare::TRAIL_GUARDS;
use crate::error::{Error, Result, StoreResult};
use crate::run::task;
use crate::trail::append::append;
use crate::vault::payload;

mod checks;

use checks::{CHECKS, CheckQuery, ENABLE_GUARDS, Remedy};

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was checked, as a sentence that should hold.
    pub name: &'static str,
    /// Whether it holds.
    pub is_good: bool,
    /// What was found, and what to do about it.
    pub found: String,
    /// Whether [`restore_guards`] puts it right, as the owner of the database.
    #[serde(skip)]
    pub is_guard: bool,
}

impl Check {
    /// The result of a check that found `wrong` rows or files.
    pub fn counted(name: &'static str, wrong: usize, advice: &str) -> Self {
        let found = if wrong == 0 { "yes".to_owned() } else { format!("{wrong}: {advice}") };
        Self { name, is_good: wrong == 0, found, is_guard: false }
    }
}

/// An instance whose file should exist.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct FiledInstance {
    /// SHA-256 of its data set: the name of its file.
    pub sha256: String,
    /// Length of its data set.
    pub bytes: i64,
}

impl PgStore {
    /// Runs all checks: compares tables with the trail, looks for missing guards and stale timers.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn examine(&self) -> StoreResult<Vec<Check>> {
        let mut checks = Vec::new();
        for check in CHECKS {
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(check.count()));
            let wrong: i64 = query.fetch_one(&self.pool).await.map_err(Error::from)?;
            let is_guard = matches!(check.remedy, Remedy::RestoreGuards);
            let counted = Check::counted(check.name, decode::count(wrong), check.advice);
            checks.push(Check { is_guard, ..counted });
        }
        Ok(checks)
    }

    /// Repairs what [`examine`](Self::examine) finds, as far as possible, and reports it.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn repair(&self, by: &Actor) -> StoreResult<()> {
        for check in CHECKS {
            match check.remedy {
                Remedy::None | Remedy::RestoreGuards => {}
                Remedy::Set(columns) => self.set_columns(check, columns, by).await?,
                Remedy::Report(columns) => self.report_rows(check, columns, by).await?,
            }
        }
        Ok(())
    }

    async fn set_columns(&self, check: &CheckQuery, columns: &str, by: &Actor) -> Result<()> {
        let mut tx = self.begin().await?;
        let statement = sqlx::query(sqlx::AssertSqlSafe(check.update(columns)));
        let count = statement.execute(&mut *tx).await?.rows_affected();
        if count > 0 {
            let body = DamageRepaired { check: check.name.to_owned(), count };
            append(&mut tx, &Event::new(Subject::default(), body).by(by.clone())).await?;
        }
        commit(tx).await
    }

    async fn report_rows(&self, check: &CheckQuery, columns: &str, by: &Actor) -> Result<()> {
        let mut tx = self.begin().await?;
        let query = sqlx::query_as(sqlx::AssertSqlSafe(check.list(columns)));
        let rows: Vec<(Option<String>, Option<String>, Option<Uuid>)> =
            query.fetch_all(&mut *tx).await?;
        for (study, instance, run) in rows {
            let subject = Subject { study, instance, run, ..Subject::default() };
            report_damage(&mut tx, check.name, check.advice, subject, by).await?;
        }
        commit(tx).await
    }

    /// The instances whose files should be there.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn filed_instances(&self) -> StoreResult<Vec<FiledInstance>> {
        let query =
            "select distinct on (sha256) sha256, bytes from instance where not is_file_gone";
        Ok(sqlx::query_as(query).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Takes instances out of use whose file is damaged. One that arrives again is restored.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn isolate(&self, sha256: &str, why: &'static str, by: &Actor) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "update instance set removed_at = coalesce(removed_at, clock_timestamp()), is_file_gone = true
             where sha256 = $1 and not is_file_gone returning study, uid",
        )
        .bind(sha256)
        .fetch_all(&mut *tx)
        .await
        .map_err(Error::from)?;
        for (study, instance) in rows {
            let subject =
                Subject { study: Some(study), instance: Some(instance), ..Subject::default() };
            let advice = "an image cannot be used: have it sent again";
            report_damage(&mut tx, why, advice, subject, by).await?;
        }
        Ok(commit(tx).await?)
    }

    /// Messages whose stored bytes differ from those that arrived: reads and decrypts every one.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn altered_messages(&self) -> StoreResult<Vec<Uuid>> {
        Ok(self.altered_message_rows().await?)
    }

    async fn altered_message_rows(&self) -> Result<Vec<Uuid>> {
        let mut altered = Vec::new();
        let mut last = Uuid::nil();
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
                // A payload that was erased or removed on purpose is not damaged.
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

    /// Reports damage of `subject`, or of no particular one, and opens a task.
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
    ) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        report_damage(&mut tx, name, advice, subject, by).await?;
        Ok(commit(tx).await?)
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

async fn report_damage(
    tx: &mut PgConnection,
    name: &str,
    advice: &str,
    subject: Subject,
    by: &Actor,
) -> Result<()> {
    let event = Event::new(subject.clone(), DamageNoted { check: name.to_owned() });
    append(tx, &event.by(by.clone()).ended(Outcome::SeriousFailure)).await?;
    let reason = format!("{name}: not so; {advice}");
    task::open_once(tx, &NewTask { kind: TaskKind::Damage, subject, reason }).await
}

/// Restores the guards that keep the trail from being changed, as the owner of the database.
///
/// # Errors
///
/// Fails if the database does, or does not let this user.
pub async fn restore_guards(owner: PgConnectOptions) -> StoreResult<()> {
    let restored = async {
        let mut connection = PgConnection::connect_with(&owner).await?;
        sqlx::raw_sql(TRAIL_GUARDS).execute(&mut connection).await?;
        sqlx::raw_sql(ENABLE_GUARDS).execute(&mut connection).await?;
        connection.close().await
    };
    Ok(restored.await.map_err(Error::from)?)
}
