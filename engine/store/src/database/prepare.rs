//! Brings a database up to date: tables by migrations, then functions, triggers and rights.
//!
//! A migration runs once. The functions of the database lie in `migrations/functions`, one file
//! each, with the rights in `migrations/permissions.sql`; both are installed again whenever their
//! text differs from what is installed, so that there is one copy of each to read.

use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Executor as _, PgConnection};

use crate::database::pg_store::{CONNECTION_WAIT, OpenError};

/// The function and the triggers that refuse changes of the trail. `doctor` installs them again.
pub(crate) const TRAIL_GUARDS: &str =
    include_str!("../../../../migrations/functions/audit_refuse.sql");

/// Everything that is installed after the migrations, in order. A function may name one that comes
/// later: bodies are not checked until all are there.
const FUNCTIONS: &[(&str, &str)] = &[
    ("audit_append", include_str!("../../../../migrations/functions/audit_append.sql")),
    ("audit_refuse", TRAIL_GUARDS),
    ("audit_seal_batch", include_str!("../../../../migrations/functions/audit_seal_batch.sql")),
    (
        "instance_batch_insert",
        include_str!("../../../../migrations/functions/instance_batch_insert.sql"),
    ),
    (
        "is_delivery_repeated",
        include_str!("../../../../migrations/functions/is_delivery_repeated.sql"),
    ),
    ("is_due", include_str!("../../../../migrations/functions/is_due.sql")),
    ("is_message_due", include_str!("../../../../migrations/functions/is_message_due.sql")),
    ("is_study_due", include_str!("../../../../migrations/functions/is_study_due.sql")),
    (
        "message_batch_insert",
        include_str!("../../../../migrations/functions/message_batch_insert.sql"),
    ),
    ("micros", include_str!("../../../../migrations/functions/micros.sql")),
    ("patient_family", include_str!("../../../../migrations/functions/patient_family.sql")),
    ("patient_root", include_str!("../../../../migrations/functions/patient_root.sql")),
    ("run_next_turn", include_str!("../../../../migrations/functions/run_next_turn.sql")),
    ("shifted_time", include_str!("../../../../migrations/functions/shifted_time.sql")),
    ("permissions", include_str!("../../../../migrations/permissions.sql")),
];

/// Keeps two engines from installing at once.
const INSTALL_LOCK: i64 = 0x1D_0003;

/// Brings a database up to date: tables, functions, guards and roles. The user needs the right to
/// create roles for all of it; a user without any rights may call it on a database that is up to
/// date.
///
/// # Errors
///
/// Fails if the database cannot be reached, or was prepared by a newer engine.
pub async fn prepare(options: PgConnectOptions) -> Result<(), OpenError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECTION_WAIT)
        .connect_with(options)
        .await
        .map_err(OpenError::Connect)?;
    let outcome = bring_up_to_date(&pool).await;
    pool.close().await;
    outcome
}

async fn bring_up_to_date(pool: &PgPool) -> Result<(), OpenError> {
    let migrations = sqlx::migrate!("../../migrations");
    let is_migrated = is_migrated(pool, &migrations).await;
    if !is_migrated {
        migrations.run(pool).await.map_err(OpenError::Migrate)?;
    }
    // Rights on a table that a migration has just made are given again with all others.
    if !is_migrated || !is_installed(pool).await {
        install(pool).await.map_err(OpenError::Install)?;
    }
    Ok(())
}

async fn is_migrated(pool: &PgPool, migrations: &sqlx::migrate::Migrator) -> bool {
    let applied: Result<Vec<(i64, Vec<u8>)>, _> = sqlx::query_as(
        "select version, checksum from _sqlx_migrations where success order by version",
    )
    .fetch_all(pool)
    .await;
    let known: Vec<(i64, Vec<u8>)> =
        migrations.iter().map(|it| (it.version, it.checksum.to_vec())).collect();
    applied.is_ok_and(|it| it == known)
}

async fn is_installed(pool: &PgPool) -> bool {
    let installed = sqlx::query_scalar::<_, Vec<u8>>("select digest from installed_functions");
    let installed = installed.fetch_optional(pool).await;
    installed.is_ok_and(|digest| digest.is_some_and(|digest| digest == functions_digest()))
}

async fn install(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let connection: &mut PgConnection = &mut tx;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(INSTALL_LOCK)
        .execute(&mut *connection)
        .await?;
    connection.execute("set local check_function_bodies = off").await?;
    // `create or replace trigger` and repeated grants have notices that nobody needs to read.
    connection.execute("set local client_min_messages = warning").await?;
    for (_, text) in FUNCTIONS {
        connection.execute(*text).await?;
    }
    sqlx::query(
        "insert into installed_functions (digest) values ($1)
         on conflict (is_only_row) do update set digest = excluded.digest",
    )
    .bind(functions_digest().as_slice())
    .execute(connection)
    .await?;
    tx.commit().await
}

/// SHA-256 over the names and texts of all functions.
fn functions_digest() -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (name, text) in FUNCTIONS {
        hasher.update(name);
        hasher.update([0]);
        hasher.update(text);
        hasher.update([0]);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_installed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/functions");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let installed = FUNCTIONS.iter().map(|(name, _)| (*name).to_owned());
        let installed: BTreeSet<String> = installed.filter(|name| name != "permissions").collect();

        assert_eq!(installed, files);
    }

    #[test]
    fn every_file_opens_with_plain_words_and_can_run_again() {
        for (name, text) in FUNCTIONS {
            assert!(text.starts_with("-- "), "{name} explains nothing");
            assert!(!text.contains("create function"), "{name} cannot run twice");
            assert!(!text.contains("create trigger"), "{name} cannot run twice");
        }
    }
}
