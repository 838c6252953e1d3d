//! What is looked at in the database, and what is done about it.

/// One thing to look at.
pub(super) struct Look {
    pub(super) name: &'static str,
    /// Counts what is wrong.
    pub(super) count: &'static str,
    /// What it means, and what to do about it.
    pub(super) advice: &'static str,
    pub(super) remedy: Remedy,
}

/// What is done about it.
pub(super) enum Remedy {
    /// Nothing, from here.
    None,
    /// A statement that puts it right.
    Change(&'static str),
    /// Study, instance and run of each are noted, and given to a person.
    Note(&'static str),
}

/// The guards of the trail, as `migrations/functions/audit_refuse.sql` and `permissions.sql` make them.
pub(super) const GUARDS: &str = "
    create or replace trigger event_stays before update or delete on audit.event
        for each row execute function audit.refuse();
    create or replace trigger event_stays_whole before truncate on audit.event
        for each statement execute function audit.refuse();
    create or replace trigger seal_stays before update or delete on audit.seal
        for each row execute function audit.refuse();
    create or replace trigger seal_stays_whole before truncate on audit.seal
        for each statement execute function audit.refuse();
    create or replace trigger batch_stays before update or delete on audit.batch
        for each row execute function audit.refuse();
    create or replace trigger batch_stays_whole before truncate on audit.batch
        for each statement execute function audit.refuse();
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

pub(super) const CHECKS: &[Look] = &[
    Look {
        name: "the trail refuses changes",
        count: "select 6 - count(*) from pg_trigger where tgenabled <> 'D' and tgname in
            ('event_stays', 'event_stays_whole', 'seal_stays', 'seal_stays_whole',
             'batch_stays', 'batch_stays_whole')",
        advice: "guards are missing; run: isocenter doctor --repair",
        remedy: Remedy::None,
    },
    Look {
        name: "the engine cannot write the trail but through audit.append",
        count: "select count(*) from unnest(array['audit.event', 'audit.seal', 'audit.batch']) t,
            unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
         where has_table_privilege(current_user, t, p)",
        advice: "the database user may write the trail; run: isocenter store prepare --as-owner URL",
        remedy: Remedy::None,
    },
    Look {
        name: "every event is sealed within a minute",
        count: "select count(*) from audit.event e
         where at < now() - interval '1 minute' and at > now() - interval '1 day'
            and not exists (select from audit.seal s where s.event = e.id)",
        advice: "events wait for their seal: is the engine running, does a transaction hang?",
        remedy: Remedy::None,
    },
    Look {
        name: "every current instance has its event",
        count: "select count(*) from instance i where is_current and not exists
            (select from audit.event e where e.study = i.study and e.instance = i.uid
                and e.kind in ('instance_received', 'damage_noted'))",
        advice: "instances without an event: projections and trail differ",
        remedy: Remedy::Note(
            "select i.study, i.uid, null::uuid from instance i where is_current and not exists
                (select from audit.event e where e.study = i.study and e.instance = i.uid
                    and e.kind in ('instance_received', 'damage_noted'))",
        ),
    },
    Look {
        name: "every event of an instance has its row",
        count: "select count(*) from audit.event e where e.kind = 'instance_received'
            and not exists (select from instance i where i.uid = e.instance)
            and not exists (select from audit.event d where d.study = e.study
                and d.instance = e.instance and d.kind = 'damage_noted')",
        advice: "events without an instance: projections and trail differ; have it sent again",
        remedy: Remedy::Note(
            "select distinct e.study, e.instance, null::uuid from audit.event e
             where e.kind = 'instance_received'
                and not exists (select from instance i where i.uid = e.instance)
                and not exists (select from audit.event d where d.study = e.study
                    and d.instance = e.instance and d.kind = 'damage_noted')",
        ),
    },
    Look {
        name: "every run has its beginning in the trail",
        count: "select count(*) from run r where not exists (select from audit.event e
            where e.run = r.id and e.kind in ('run_started', 'damage_noted'))",
        advice: "runs without an event: projections and trail differ",
        remedy: Remedy::Note(
            "select r.study, null::text, r.id from run r where not exists (select from audit.event e
                where e.run = r.id and e.kind in ('run_started', 'damage_noted'))",
        ),
    },
    Look {
        name: "every ended run has its end in the trail",
        count: "select count(*) from run r where ended_at is not null and not exists
            (select from audit.event e where e.run = r.id
                and e.kind in ('run_completed', 'run_failed', 'run_cancelled', 'damage_noted'))",
        advice: "ended runs without an event: projections and trail differ",
        remedy: Remedy::Note(
            "select r.study, null::text, r.id from run r where ended_at is not null and not exists
                (select from audit.event e where e.run = r.id
                    and e.kind in ('run_completed', 'run_failed', 'run_cancelled', 'damage_noted'))",
        ),
    },
    Look {
        name: "every delivery that arrived is in the trail",
        count: "select count(*) from delivery d where state = 'delivered' and not exists
            (select from audit.event e where e.run = d.run and e.kind in ('delivered', 'damage_noted'))",
        advice: "deliveries without an event: projections and trail differ",
        remedy: Remedy::Note(
            "select distinct r.study, null::text, r.id from delivery d join run r on r.id = d.run
             where d.state = 'delivered' and not exists (select from audit.event e
                where e.run = d.run and e.kind in ('delivered', 'damage_noted'))",
        ),
    },
    Look {
        name: "no node hangs",
        count: "select count(*) from node where state = 'running'
            and lease_until < now() - interval '5 minutes'",
        advice: "nodes whose worker is gone: is the engine running?",
        remedy: Remedy::Change(
            "update node set state = 'ready', lease_until = null, run_after = now(), changed_at = now()
             where state = 'running' and lease_until < now() - interval '5 minutes'",
        ),
    },
    Look {
        name: "no node is leased for longer than a day",
        count: "select count(*) from node where lease_until > now() + interval '1 day'",
        advice: "leases from a clock that was ahead: nobody would take them over",
        remedy: Remedy::Change(
            "update node set lease_until = now() where lease_until > now() + interval '1 day'",
        ),
    },
    Look {
        name: "no delivery is leased for longer than a day",
        count: "select count(*) from delivery where lease_until > now() + interval '1 day'",
        advice: "leases from a clock that was ahead: nobody would take them over",
        remedy: Remedy::Change(
            "update delivery set lease_until = now() where lease_until > now() + interval '1 day'",
        ),
    },
    Look {
        name: "no study waits for a time more than a month away",
        count: "select count(*) from study where look_at > now() + interval '31 days'",
        advice: "times from a clock that was ahead",
        remedy: Remedy::Change(
            "update study set look_at = now() where look_at > now() + interval '31 days'",
        ),
    },
    Look {
        name: "no node waits for a time more than a month away",
        count: "select count(*) from node where state = 'ready' and run_after > now() + interval '31 days'",
        advice: "times from a clock that was ahead",
        remedy: Remedy::Change(
            "update node set run_after = now()
             where state = 'ready' and run_after > now() + interval '31 days'",
        ),
    },
    Look {
        name: "no delivery waits for a time more than a month away",
        count: "select count(*) from delivery
            where state = 'queued' and run_after > now() + interval '31 days'",
        advice: "times from a clock that was ahead",
        remedy: Remedy::Change(
            "update delivery set run_after = now()
             where state = 'queued' and run_after > now() + interval '31 days'",
        ),
    },
    Look {
        name: "every study was looked at, or will be",
        count: "select count(*) from study s where look_at is null and standings = '{}'
            and exists (select from workflow_version)
            and exists (select from instance i where i.study = s.uid and i.is_current
                and i.removed_at is null)
            and not exists (select from run r where r.study = s.uid)",
        advice: "studies nobody decides about: their timer is lost",
        remedy: Remedy::Change(
            "update study s set look_at = now() where look_at is null and standings = '{}'
                and exists (select from workflow_version)
                and exists (select from instance i where i.study = s.uid and i.is_current
                    and i.removed_at is null)
                and not exists (select from run r where r.study = s.uid)",
        ),
    },
    Look {
        name: "no delivery has failed",
        count: "select count(*) from delivery where state = 'failed'",
        advice: "see: isocenter delivery list --failed",
        remedy: Remedy::None,
    },
];
