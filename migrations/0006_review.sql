-- Review: what admits people, what they make of results, and the corrections that come back.

-- What a person shows to be admitted. Only its digest is stored.
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

-- The versions that people made of a run's result, append-only. Content and difference are
-- encrypted with the patient's key. The states are those of domain::ReviewState.
create table run_version (
    run        uuid        not null references run (id),
    version    int         not null check (version > 0),
    state      text        not null,
    -- The number of the document in document messages, and of the one it replaces.
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

-- Who is reviewing a run's result at the moment.
create table review_lock (
    run   uuid        primary key references run (id),
    token uuid        not null references token (id),
    until timestamptz not null
);

-- The composed revisions of a run: one for each identity of the patient, set of orders and version.
create table run_revision (
    run    uuid not null references run (id),
    stamp  text not null,
    number int  not null,
    primary key (run, stamp),
    unique (run, number)
);

-- A draft and what became of it: material for training a model again.
create table labelled_pair (
    id         uuid        primary key,
    run        uuid        not null references run (id),
    -- The names are those of domain::CorrectionSource.
    source     text        not null,
    -- The version of the run, or the instance or message that came back.
    origin     text        not null,
    draft      uuid        not null references payload (id),
    final      uuid        not null references payload (id),
    difference uuid        not null references payload (id),
    at         timestamptz not null default now(),
    unique (run, source, origin)
);

-- Objects and messages from outside that may correct a draft: a SEG or SR of a workstation, a report
-- of the RIS.
create table correction (
    source     text        not null,
    origin     text        not null,
    sha256     text,
    study      text,
    accession  text,
    at         timestamptz not null default clock_timestamp(),
    decided_at timestamptz,
    primary key (source, origin)
);
create index correction_open on correction (at) where decided_at is null;

-- What a person has to look at. The kinds are those of domain::TaskKind.
create table task (
    id         uuid        primary key,
    kind       text        not null,
    subject    jsonb       not null,
    reason     text        not null,
    opened_at  timestamptz not null default now(),
    decided_at timestamptz,
    decided_by text,
    decision   text
);
create index task_open on task (opened_at) where decided_at is null;
