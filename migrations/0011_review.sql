-- People who review: what lets them in, and what they made of results.

-- What somebody shows to be let in. Only its digest is kept.
create table token (
    id           uuid        primary key,
    name         text        not null,
    organization text        not null,
    role         text        not null,
    hash         bytea       not null unique check (length(hash) = 32),
    created_by   text        not null,
    created_at   timestamptz not null default now(),
    expires_at   timestamptz not null,
    revoked_at   timestamptz
);

-- What people made of a run's result, state after state, for good. Content and difference are
-- encrypted with the patient's key.
create table run_version (
    run        uuid        not null references run (id),
    version    int         not null check (version > 0),
    state      text        not null,
    -- Which document it is, as of document messages, and which one it replaces.
    document   int         not null,
    replaces   int,
    content    uuid        not null references payload (id),
    difference uuid        not null references payload (id),
    digest     text        not null,
    meaning    text,
    token      uuid        not null references token (id),
    at         timestamptz not null,
    primary key (run, version),
    constraint run_version_state check (state in
        ('edited', 'signed', 'amended', 'rejected', 'withdrawn')),
    constraint signed_has_meaning check
        (state in ('edited', 'withdrawn') or meaning is not null)
);

-- Who has a run's result under their hands just now.
create table review_lock (
    run   uuid        primary key references run (id),
    token uuid        not null references token (id),
    until timestamptz not null
);

-- The versions of a run that were composed: one for each identity of the patient, set of orders and
-- state people gave it.
create table run_revision (
    run    uuid not null references run (id),
    stamp  text not null,
    number int  not null,
    primary key (run, stamp),
    unique (run, number)
);

alter table delivery drop column revision;
-- What the destination has: what was composed then, and which state people had given it.
alter table delivery add column sent uuid references payload (id);
alter table delivery add column sent_version int not null default 0;

alter table node drop constraint node_state;
alter table node add constraint node_state check (state in
    ('waiting', 'ready', 'running', 'in_review', 'done', 'failed', 'skipped', 'cancelled'));
create index node_in_review on node (changed_at) where state = 'in_review';

-- A draft and what became of it: what a model is trained with again.
create table labelled_pair (
    id         uuid        primary key,
    run        uuid        not null references run (id),
    -- `review`, or what came back: `seg`, `sr`, `oru`, `mdm`.
    source     text        not null,
    -- The version of the run, or the instance or message that came.
    origin     text        not null,
    draft      uuid        not null references payload (id),
    final      uuid        not null references payload (id),
    difference uuid        not null references payload (id),
    at         timestamptz not null default now(),
    unique (run, source, origin)
);

-- What came back from outside and may be a correction of a draft: a SEG or SR of a workstation, a report
-- of the RIS.
create table returned (
    source     text        not null,
    origin     text        not null,
    sha256     text,
    study      text,
    accession  text,
    at         timestamptz not null default clock_timestamp(),
    decided_at timestamptz,
    primary key (source, origin)
);
create index returned_open on returned (at) where decided_at is null;

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert, update, delete on token, review_lock, labelled_pair, returned to isocenter_app;
        grant select, insert on run_version, run_revision to isocenter_app;
    end if;
end
$$;
