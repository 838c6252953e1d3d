-- What is known now: patients, orders, studies, messages, runs and deliveries.
--
-- Each row is changed in the same transaction that adds the event which says so. Nothing here is
-- evidence; the trail is. What identifies a patient and must be erasable lies here and in payload,
-- never in the trail.

-- One key per patient encrypts everything of theirs. Destroying it erases them from every copy.
create table payload_key (
    id           uuid        primary key,
    patient      uuid,
    wrapped      bytea,
    created_at   timestamptz not null default now(),
    destroyed_at timestamptz,
    constraint destroyed_or_there check ((wrapped is null) = (destroyed_at is not null))
);
create unique index payload_key_patient on payload_key (coalesce(patient, '00000000-0000-0000-0000-000000000000'))
    where destroyed_at is null;

-- Messages, what nodes gave, reports: encrypted.
create table payload (
    id     uuid        primary key,
    key    uuid        not null references payload_key (id),
    kind   text        not null,
    sealed bytea       not null,
    at     timestamptz not null default now()
);

create table patient (
    id           uuid        primary key,
    -- Set by a merge: this patient turned out to be that one (HL7-30).
    merged_into  uuid        references patient (id),
    -- By what the patient is known now.
    value        text        not null,
    issuer       text        not null,
    demographics jsonb       not null default '{}',
    -- Changes with every change of identity, so that a report can tell that it is stale.
    version      int         not null default 1,
    created_at   timestamptz not null default now(),
    constraint not_merged_into_itself check (merged_into is distinct from id)
);

-- Every identifier anybody used, and the patient it was first used for.
create table patient_identifier (
    value   text not null,
    issuer  text not null,
    patient uuid not null references patient (id),
    primary key (value, issuer)
);
create index patient_identifier_patient on patient_identifier (patient);

-- Who was merged into whom, in order, for good.
create table patient_alias (
    from_patient uuid        not null references patient (id),
    to_patient   uuid        not null references patient (id),
    event        uuid        not null,
    at           timestamptz not null default now(),
    primary key (from_patient, to_patient, event)
);

-- The patient somebody turned out to be.
create function patient_root(start uuid) returns uuid
language sql stable as $$
    with recursive path (id, merged_into, depth) as (
        select id, merged_into, 0 from patient where id = start
        union all
        select p.id, p.merged_into, path.depth + 1
            from path join patient p on p.id = path.merged_into where path.depth < 1000
    )
    select id from path where merged_into is null;
$$;

-- Everybody who turned out to be the same as somebody.
create function patient_family(start uuid) returns setof uuid
language sql stable as $$
    with recursive family (id) as (
        select patient_root(start)
        union
        select p.id from family join patient p on p.merged_into = family.id
    )
    select id from family where id is not null;
$$;
create index patient_merged_into on patient (merged_into) where merged_into is not null;

create table message (
    id                  uuid        primary key,
    received_at         timestamptz not null default now(),
    address             text        not null,
    sending_application text        not null,
    sending_facility    text        not null,
    message_type        text        not null,
    control_id          text        not null,
    sha256              text        not null,
    raw                 uuid        not null references payload (id),
    document            uuid        references payload (id),
    patient             uuid        references patient (id),
    accession           text        not null default '',
    acknowledgement     bytea       not null,
    code                text        not null,
    problem             text,
    -- Whether it was decided which workflows take it.
    decided             boolean     not null
);
create index message_control_id on message (control_id, sha256, received_at);
create index message_undecided on message (received_at) where not decided;
create index message_patient on message (patient);

create table imaging_order (
    id                  uuid        primary key,
    patient             uuid        references patient (id),
    placer              text        not null,
    filler              text        not null,
    accession           text        not null,
    requested_procedure text        not null,
    study               text,
    body                jsonb       not null,
    cancelled           boolean     not null default false,
    message             uuid        not null references message (id),
    changed_at          timestamptz not null default now()
);
create index imaging_order_accession on imaging_order (accession) where accession <> '';
create index imaging_order_study on imaging_order (study) where study is not null;
create index imaging_order_placer on imaging_order (placer) where placer <> '';
create index imaging_order_filler on imaging_order (filler) where filler <> '';

create table study (
    uid            text        primary key,
    patient        uuid        references patient (id),
    accession      text        not null,
    description    text        not null,
    study_date     text        not null,
    study_time     text        not null,
    study_id       text        not null,
    first_received timestamptz not null default now(),
    last_received  timestamptz not null default now(),
    -- When to decide about it next.
    look_at        timestamptz,
    -- What was put on record about each workflow, so that it is said once.
    told           jsonb       not null default '{}'
);
create index study_accession on study (accession) where accession <> '';
create index study_patient on study (patient);
create index study_look_at on study (look_at) where look_at is not null;

create table series (
    uid         text primary key,
    study       text not null references study (uid),
    modality    text not null,
    body_part   text not null,
    description text not null
);
create index series_study on series (study);

create table instance (
    uid             text        not null,
    sha256          text        not null,
    series          text        not null references series (uid),
    study           text        not null references study (uid),
    sop_class       text        not null,
    transfer_syntax text        not null,
    bytes           bigint      not null,
    calling_ae      text        not null,
    received_at     timestamptz not null default now(),
    -- Of several versions of one name, the one that counts (DIN-22).
    is_current      boolean     not null,
    flags           text[]      not null default '{}',
    primary key (uid, sha256)
);
create unique index instance_current on instance (uid) where is_current;
create index instance_study on instance (study);

create table workflow_version (
    name       text        not null,
    digest     text        not null,
    definition text        not null,
    first_used timestamptz not null default now(),
    primary key (name, digest)
);

create table run (
    id         uuid        primary key,
    workflow   text        not null,
    digest     text        not null,
    patient    uuid        references patient (id),
    study      text        references study (uid),
    message    uuid        references message (id),
    priority   smallint    not null,
    -- The same workflow runs once on the same input (DIN-53).
    input_key  text        not null unique,
    state      jsonb       not null,
    status     text        not null default 'running',
    reason     text        not null,
    started_at timestamptz not null default now(),
    ended_at   timestamptz,
    foreign key (workflow, digest) references workflow_version (name, digest),
    constraint run_status check (status in ('running', 'completed', 'failed', 'cancelled'))
);
create index run_study on run (study);
create index run_message on run (message);
create index run_patient on run (patient);

create table run_instance (
    run    uuid not null references run (id),
    uid    text not null,
    sha256 text not null,
    primary key (run, uid),
    foreign key (uid, sha256) references instance (uid, sha256)
);

-- The steps of runs; those that are ready are the queue.
create table node (
    run         uuid        not null references run (id),
    node        text        not null,
    state       text        not null,
    plugin      jsonb,
    priority    smallint    not null,
    run_after   timestamptz not null default now(),
    lease_until timestamptz,
    -- Counts the tries. Only the newest may end the node.
    attempt     int         not null default 0,
    output      uuid        references payload (id),
    reason      text        not null default '',
    changed_at  timestamptz not null default now(),
    primary key (run, node),
    constraint node_state check (state in
        ('waiting', 'ready', 'running', 'done', 'failed', 'skipped', 'cancelled')),
    constraint running_has_lease check ((state = 'running') = (lease_until is not null))
);
create index node_queue on node (priority, run_after) where state = 'ready';
create index node_leases on node (lease_until) where state = 'running';

-- Reports on their way out.
create table delivery (
    id          uuid        primary key,
    position    bigint      not null generated always as identity,
    run         uuid        not null references run (id),
    index       int         not null,
    destination text        not null,
    what        jsonb       not null,
    patient     uuid        references patient (id),
    state       text        not null default 'queued',
    attempt     int         not null default 0,
    run_after   timestamptz not null default now(),
    lease_until timestamptz,
    reason      text        not null default '',
    -- What was composed, and with which identity.
    composed    uuid        references payload (id),
    identity    text,
    ended_at    timestamptz,
    unique (run, index),
    constraint delivery_state check (state in
        ('queued', 'sending', 'delivered', 'failed', 'blocked')),
    constraint sending_has_lease check ((state = 'sending') = (lease_until is not null))
);
create index delivery_queue on delivery (destination, position) where state in ('queued', 'sending');

-- What a person has to look at.
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
