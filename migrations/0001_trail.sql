-- The trail: what happened to whose data, in order, for good.
--
-- Events are only ever added, and only through audit.append. Many transactions add side by side,
-- without a lock. A sealer gives each event its place afterwards: a number without gaps and a hash
-- that covers the event and the hash before it; batches of seals carry a signature made with a key
-- that the database does not have. A row that was changed, removed or moved shows against the
-- seals, and rewritten seals show against the signatures.

create schema audit;

create table audit.event (
    id         uuid        primary key,
    -- The transaction that added it. Only what is older than every running transaction is sealed,
    -- so that nothing can still appear before what has its number.
    xid        xid8        not null default pg_current_xact_id(),
    position   bigint      not null generated always as identity,
    at         timestamptz not null default clock_timestamp(),
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

-- The place of each event in the chain.
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

create function audit.append(id uuid, body jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into audit.event (id, body) values (id, body);
$$;

create function audit.seal_batch(
    number bigint, seqs bigint[], events uuid[], hashes bytea[],
    last_xid text, last_position bigint, sealed_at timestamptz,
    root bytea, signature bytea
) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into audit.seal (seq, event, hash)
        select * from unnest(seqs, events, hashes);
    insert into audit.batch values (
        number, seqs[1], seqs[array_upper(seqs, 1)], last_xid::xid8, last_position, sealed_at, root,
        hashes[array_upper(hashes, 1)], signature);
$$;

create function audit.refuse() returns trigger
language plpgsql as $$
begin
    raise exception 'the trail is append-only' using errcode = 'restrict_violation';
end
$$;

create trigger event_stays before update or delete on audit.event
    for each row execute function audit.refuse();
create trigger event_stays_whole before truncate on audit.event
    for each statement execute function audit.refuse();
create trigger seal_stays before update or delete on audit.seal
    for each row execute function audit.refuse();
create trigger seal_stays_whole before truncate on audit.seal
    for each statement execute function audit.refuse();
create trigger batch_stays before update or delete on audit.batch
    for each row execute function audit.refuse();
create trigger batch_stays_whole before truncate on audit.batch
    for each statement execute function audit.refuse();

-- Times cross to the engine as microseconds since 1970.
create function micros(at timestamptz) returns bigint
language sql immutable as $$ select (extract(epoch from at) * 1000000)::bigint $$;
create function at_micros(micros bigint) returns timestamptz
language sql immutable as $$ select timestamptz 'epoch' + micros * interval '1 microsecond' $$;
