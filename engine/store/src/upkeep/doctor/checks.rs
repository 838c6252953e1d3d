//! The checks of the database: which rows are wrong, and what is done about them.

/// One check. Its condition is written once, for finding the rows and for repairing them.
pub(super) struct CheckQuery {
    /// What holds if no row is wrong, as a sentence.
    pub(super) name: &'static str,
    /// The tables, as in `from`.
    pub(super) tables: &'static str,
    /// The condition of the rows that are wrong, as in `where`.
    pub(super) is_wrong: &'static str,
    /// What wrong rows mean, and what a person can do about them.
    pub(super) advice: &'static str,
    pub(super) remedy: Remedy,
}

/// What a repair does about the rows that are wrong.
pub(super) enum Remedy {
    /// Nothing: a person has to act.
    None,
    /// The guards of the trail are installed again, which takes the owner of the database.
    RestoreGuards,
    /// Sets columns to values that are right, as in `update … set`.
    Set(&'static str),
    /// Reports each row and opens a task: the columns are its study, instance and run.
    Report(&'static str),
}

impl CheckQuery {
    /// The query that counts the rows that are wrong.
    pub(super) fn count(&self) -> String {
        format!("select count(*) from {} where {}", self.tables, self.is_wrong)
    }

    /// The statement that sets columns of the rows that are wrong.
    pub(super) fn update(&self, columns: &str) -> String {
        format!("update {} set {columns} where {}", self.tables, self.is_wrong)
    }

    /// The query that lists the rows that are wrong.
    pub(super) fn list(&self, columns: &str) -> String {
        format!("select distinct {columns} from {} where {}", self.tables, self.is_wrong)
    }
}

/// Enables the guards of the trail that [`TRAIL_GUARDS`] installs, where somebody disabled them, and
/// takes from the engine's user any right to write the trail directly.
///
/// [`TRAIL_GUARDS`]: crate::database::prepare::TRAIL_GUARDS
pub(super) const ENABLE_GUARDS: &str = "
    alter table audit.event enable trigger event_stays, enable trigger event_stays_whole;
    alter table audit.seal enable trigger seal_stays, enable trigger seal_stays_whole;
    alter table audit.batch enable trigger batch_stays, enable trigger batch_stays_whole;
    do $$
    begin
        if exists (select from pg_roles where rolname = 'isocenter_app') then
            revoke insert, update, delete, truncate on audit.event, audit.seal, audit.batch
                from isocenter_app;
        end if;
    end
    $$;";

pub(super) const CHECKS: &[CheckQuery] = &[
    CheckQuery {
        name: "the trail refuses changes",
        tables: "unnest(array['event_stays', 'event_stays_whole', 'seal_stays', 'seal_stays_whole',
            'batch_stays', 'batch_stays_whole']) guard",
        is_wrong: "not exists (select from pg_trigger where tgname = guard and tgenabled <> 'D')",
        advice: "guards are missing; run: isocenter doctor --repair",
        remedy: Remedy::RestoreGuards,
    },
    CheckQuery {
        name: "the engine cannot write the trail but through audit.append",
        tables: "unnest(array['audit.event', 'audit.seal', 'audit.batch']) t,
            unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p",
        is_wrong: "has_table_privilege(current_user, t, p)",
        advice: "the database user may write the trail; run: isocenter store prepare --as-owner URL",
        remedy: Remedy::RestoreGuards,
    },
    CheckQuery {
        name: "every event is sealed within a minute",
        tables: "audit.event e",
        is_wrong: "at < now() - interval '1 minute' and at > now() - interval '1 day'
            and not exists (select from audit.seal s where s.event = e.id)",
        advice: "events wait for their seal: is the engine running, does a transaction hang?",
        remedy: Remedy::None,
    },
    CheckQuery {
        name: "every current instance has its event",
        tables: "instance i",
        is_wrong: "is_current and not exists
            (select from audit.event e where e.study = i.study and e.instance = i.uid
                and e.kind in ('instance_received', 'damage_noted'))",
        advice: "instances without an event: projections and trail differ",
        remedy: Remedy::Report("i.study, i.uid, null::uuid"),
    },
    CheckQuery {
        name: "every event of an instance has its row",
        tables: "audit.event e",
        is_wrong: "e.kind = 'instance_received'
            and not exists (select from instance i where i.uid = e.instance)
            and not exists (select from audit.event d where d.study = e.study
                and d.instance = e.instance and d.kind = 'damage_noted')",
        advice: "events without an instance: projections and trail differ; have it sent again",
        remedy: Remedy::Report("e.study, e.instance, null::uuid"),
    },
    CheckQuery {
        name: "no identifier is that of two patients",
        tables: "(select distinct patient from identity_collision
            where seen_at > now() - interval '30 days') collision",
        is_wrong: "true",
        advice: "patients have another birth date, sex or name where another authority or sender names \
            them: if two give the same numbers, say whose they are under `identity` in the site file",
        remedy: Remedy::None,
    },
    CheckQuery {
        name: "every run has its beginning in the trail",
        tables: "run r",
        is_wrong: "not exists (select from audit.event e
            where e.run = r.id and e.kind in ('run_started', 'damage_noted'))",
        advice: "runs without an event: projections and trail differ",
        remedy: Remedy::Report("r.study, null::text, r.id"),
    },
    CheckQuery {
        name: "every ended run has its end in the trail",
        tables: "run r",
        is_wrong:
            "ended_at is not null and not exists (select from audit.event e where e.run = r.id
            and e.kind in ('run_completed', 'run_failed', 'run_cancelled', 'damage_noted'))",
        advice: "ended runs without an event: projections and trail differ",
        remedy: Remedy::Report("r.study, null::text, r.id"),
    },
    CheckQuery {
        name: "every delivery that arrived is in the trail",
        tables: "delivery d join run r on r.id = d.run",
        is_wrong: "d.state = 'delivered' and not exists (select from audit.event e
            where e.run = d.run and e.kind in ('delivered', 'damage_noted'))",
        advice: "deliveries without an event: projections and trail differ",
        remedy: Remedy::Report("r.study, null::text, r.id"),
    },
    CheckQuery {
        name: "no node hangs",
        tables: "node",
        is_wrong: "state = 'running' and lease_until < now() - interval '5 minutes'",
        advice: "nodes whose worker is gone: is the engine running?",
        remedy: Remedy::Set(
            "state = 'ready', lease_until = null, run_after = now(), changed_at = now()",
        ),
    },
    CheckQuery {
        name: "no node is leased for longer than a day",
        tables: "node",
        is_wrong: "lease_until > now() + interval '1 day'",
        advice: "leases from a clock that was ahead: nobody would take them over",
        remedy: Remedy::Set("lease_until = now()"),
    },
    CheckQuery {
        name: "no delivery is leased for longer than a day",
        tables: "delivery",
        is_wrong: "lease_until > now() + interval '1 day'",
        advice: "leases from a clock that was ahead: nobody would take them over",
        remedy: Remedy::Set("lease_until = now()"),
    },
    CheckQuery {
        name: "no study waits for a time more than a month away",
        tables: "study",
        is_wrong: "decide_at > now() + interval '31 days'",
        advice: "times from a clock that was ahead",
        remedy: Remedy::Set("decide_at = now()"),
    },
    CheckQuery {
        name: "no node waits for a time more than a month away",
        tables: "node",
        is_wrong: "state = 'ready' and run_after > now() + interval '31 days'",
        advice: "times from a clock that was ahead",
        remedy: Remedy::Set("run_after = now()"),
    },
    CheckQuery {
        name: "no delivery waits for a time more than a month away",
        tables: "delivery",
        is_wrong: "state = 'queued' and run_after > now() + interval '31 days'",
        advice: "times from a clock that was ahead",
        remedy: Remedy::Set("run_after = now()"),
    },
    CheckQuery {
        name: "every study was looked at, or will be",
        tables: "study s",
        is_wrong: "decide_at is null and standings = '{}'
            and exists (select from workflow_version)
            and exists (select from instance i where i.study = s.uid and i.is_current
                and i.removed_at is null)
            and not exists (select from run r where r.study = s.uid)",
        advice: "studies nobody decides about: their timer is lost",
        remedy: Remedy::Set("decide_at = now()"),
    },
    CheckQuery {
        name: "no delivery repeats",
        tables: "delivery",
        // Only one that was attempted so often can have arrived so often.
        is_wrong: "case when attempt > 3 then is_delivery_repeated(run, destination)
            else false end",
        advice: "a destination received the same more than three times within an hour, though \
            nothing asked for it; stop it: isocenter destination pause NAME",
        remedy: Remedy::None,
    },
    CheckQuery {
        name: "no delivery has failed",
        tables: "delivery",
        is_wrong: "state = 'failed'",
        advice: "see: isocenter delivery list --failed",
        remedy: Remedy::None,
    },
];
