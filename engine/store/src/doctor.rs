use serde::Serialize;

use crate::PgStore;
use crate::error::Error;
use contracts::StoreError;

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

/// A name, a query that counts what is wrong, what it means.
const COUNTS: &[(&str, &str, &str)] = &[
    (
        "the trail refuses changes",
        "select 6 - count(*) from pg_trigger where tgenabled <> 'D' and tgname in
            ('event_stays', 'event_stays_whole', 'seal_stays', 'seal_stays_whole',
             'batch_stays', 'batch_stays_whole')",
        "guards are missing; run: isocenter store prepare",
    ),
    (
        "the engine cannot write the trail but through audit.append",
        "select count(*) from unnest(array['audit.event', 'audit.seal', 'audit.batch']) t,
            unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
         where has_table_privilege(current_user, t, p)",
        "the database user may write the trail; run: isocenter store prepare --as-owner URL",
    ),
    (
        "every event is sealed within a minute",
        "select count(*) from audit.event e
         where at < now() - interval '1 minute' and at > now() - interval '1 day'
            and not exists (select from audit.seal s where s.event = e.id)",
        "events wait for their seal: is the engine running, does a transaction hang?",
    ),
    (
        "every current instance has its event",
        "select count(*) from instance i where is_current and not exists
            (select from audit.event e where e.study = i.study and e.instance = i.uid
                and e.kind = 'instance_received')",
        "instances without an event: projections and trail differ",
    ),
    (
        "every event of an instance has its row",
        "select count(*) from audit.event e where e.kind = 'instance_received' and not exists
            (select from instance i where i.uid = e.instance)",
        "events without an instance: projections and trail differ",
    ),
    (
        "every run has its beginning in the trail",
        "select count(*) from run r where not exists
            (select from audit.event e where e.run = r.id and e.kind = 'run_started')",
        "runs without an event: projections and trail differ",
    ),
    (
        "every ended run has its end in the trail",
        "select count(*) from run r where ended_at is not null and not exists
            (select from audit.event e where e.run = r.id
                and e.kind in ('run_completed', 'run_failed', 'run_cancelled'))",
        "ended runs without an event: projections and trail differ",
    ),
    (
        "every delivery that arrived is in the trail",
        "select count(*) from delivery d where state = 'delivered' and not exists
            (select from audit.event e where e.run = d.run and e.kind = 'delivered')",
        "deliveries without an event: projections and trail differ",
    ),
    (
        "no node hangs",
        "select count(*) from node where state = 'running' and lease_until < now() - interval '5 minutes'",
        "nodes whose worker is gone: is the engine running?",
    ),
    (
        "no delivery has failed",
        "select count(*) from delivery where state = 'failed'",
        "see: isocenter delivery list --failed",
    ),
];

impl PgStore {
    /// Compares the projections with the trail, and looks for missing guards.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn examine(&self) -> Result<Vec<Check>, StoreError> {
        let mut checks = Vec::new();
        for (name, query, advice) in COUNTS {
            let (count,): (i64,) =
                sqlx::query_as(*query).fetch_one(&self.pool).await.map_err(Error::from)?;
            let found = if count == 0 { "yes".to_owned() } else { format!("{count}: {advice}") };
            checks.push(Check { name, is_good: count == 0, found });
        }
        Ok(checks)
    }
}
