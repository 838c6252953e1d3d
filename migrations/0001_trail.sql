-- The trail: what happened to whose data, in order, append-only.
--
-- Events are only ever added, and only through audit.append. Many transactions add side by side,
-- without a lock. The sealer assigns each event its place afterwards: a number without gaps, and a
-- hash that covers the event and the hash before it. Batches of seals carry a signature made with a
-- key that the database does not have. A row that was changed, removed or moved no longer agrees
-- with the seals, and rewritten seals do not agree with the signatures.
--
-- The triggers that refuse changes are in functions/audit_refuse.sql; the rights are in
-- permissions.sql.

create schema audit;

create table audit.event (
    id         uuid        primary key,
    -- The transaction that added it. The sealer seals only what is older than every running
    -- transaction, so that no event can appear before one that already has its number.
    xid        xid8        not null default pg_current_xact_id(),
    position   bigint      not null generated always as identity,
    at         timestamptz not null default clock_timestamp(),
    -- Kind, action, outcome, actor, subject and fields; engine/domain/EVENTS.md lists the kinds.
    body       jsonb       not null,
    kind       text        not null generated always as (body ->> 'kind') stored,
    patient    uuid        generated always as ((body #>> '{subject,patient}')::uuid) stored,
    study      text        generated always as (body #>> '{subject,study}') stored,
    accession  text        generated always as (body #>> '{subject,accession}') stored,
    instance   text        generated always as (body #>> '{subject,instance}') stored,
    message    uuid        generated always as ((body #>> '{subject,message}')::uuid) stored,
    run        uuid        generated always as ((body #>> '{subject,run}')::uuid) stored,
    constraint event_kind_is_a_word check (kind ~ '^[a-z]+(_[a-z]+)*$')
);

create index event_order on audit.event (xid, position);
create index event_patient on audit.event (patient, at) where patient is not null;
create index event_study on audit.event (study, at) where study is not null;
create index event_accession on audit.event (accession, at) where accession is not null;
create index event_run on audit.event (run, at) where run is not null;
create index event_message on audit.event (message, at) where message is not null;
create index event_at on audit.event using brin (at);

-- The place of each event in the chain of hashes.
create table audit.seal (
    seq   bigint primary key check (seq > 0),
    event uuid   not null unique references audit.event (id),
    hash  bytea  not null unique check (length(hash) = 32)
);

-- Seals that were signed together.
create table audit.batch (
    number    bigint      primary key check (number > 0),
    first_seq bigint      not null unique,
    last_seq  bigint      not null unique check (last_seq >= first_seq),
    -- Where in event_order the next batch begins.
    last_xid      xid8    not null,
    last_position bigint  not null,
    sealed_at timestamptz not null,
    root      bytea       not null check (length(root) = 32),
    last_hash bytea       not null check (length(last_hash) = 32),
    signature bytea       not null check (length(signature) = 64)
);
