//! Support counts: what a person who is asked for help needs to know. Only numbers and kinds,
//! nothing of any patient.

use serde_json::{Value, json};

use crate::database::pg_store::PgStore;
use crate::error::{Error, Result, StoreResult};

/// The queries: each row is a name and a number. Names are kinds, states, and names that the site
/// gave.
const COUNTS: &[(&str, &str)] = &[
    (
        "rows",
        "select c.relname, c.reltuples::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind = 'r' and n.nspname in ('public', 'audit')",
    ),
    (
        "bytes",
        "select c.relname, pg_total_relation_size(c.oid) from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
         where c.relkind = 'r' and n.nspname in ('public', 'audit')",
    ),
    (
        "events_of_a_week",
        "select kind || ' ' || coalesce(body ->> 'outcome', ''), count(*) from audit.event
         where at > now() - interval '7 days' group by 1",
    ),
    ("runs", "select workflow || ' ' || status, count(*) from run group by 1"),
    ("nodes", "select state, count(*) from node group by 1"),
    ("deliveries", "select destination || ' ' || state, count(*) from delivery group by 1"),
    ("open_tasks", "select kind, count(*) from task where decided_at is null group by 1"),
    ("held", "select part, 1::bigint from hold"),
    ("migrations", "select version::text, 1::bigint from _sqlx_migrations"),
    ("unsealed_events", "select 'waiting', count(*) from audit.event e
        where at > now() - interval '1 day'
            and not exists (select from audit.seal s where s.event = e.id)"),
];

impl PgStore {
    /// Counts what there is, by kind. Nothing in it is about a patient.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn support_counts(&self) -> StoreResult<Value> {
        Ok(self.count_all().await?)
    }

    async fn count_all(&self) -> Result<Value> {
        let mut all = serde_json::Map::new();
        for (name, query) in COUNTS {
            let rows: Vec<(String, i64)> = sqlx::query_as(*query).fetch_all(&self.pool).await?;
            let rows = rows.into_iter().map(|(kind, count)| (kind, json!(count))).collect();
            all.insert((*name).to_owned(), Value::Object(rows));
        }
        let version = sqlx::query_scalar::<_, String>("select version()");
        let version = version.fetch_one(&self.pool).await.map_err(Error::from)?;
        all.insert("postgresql".to_owned(), json!(version));
        Ok(Value::Object(all))
    }
}
