-- Patients: keys, encrypted content, identity and the history of merges.
--
-- What identifies a patient, and what must be erasable, is stored here and in payload, never in the
-- trail. Who is the same as whom is a graph that is only added to (HL7-30..37): patient_alias holds
-- every statement about two patients, and patient.merged_into what follows from all of them.

-- One key per patient encrypts all of the patient's content. Destroying the key erases the content
-- from every copy of the database.
create table payload_key (
    id           uuid        primary key,
    patient      uuid,
    wrapped      bytea,
    created_at   timestamptz not null default now(),
    destroyed_at timestamptz,
    constraint destroyed_or_there check ((wrapped is null) = (destroyed_at is not null))
);
create unique index payload_key_patient on payload_key
    (coalesce(patient, '00000000-0000-0000-0000-000000000000')) where destroyed_at is null;

-- Encrypted content: messages, node outputs, reports.
create table payload (
    id         uuid        primary key,
    key        uuid        not null references payload_key (id),
    kind       text        not null,
    sealed     bytea,
    at         timestamptz not null default now(),
    removed_at timestamptz,
    constraint removed_or_there check ((sealed is null) = (removed_at is not null))
);
-- Encrypted content does not compress: the database need not try.
alter table payload alter column sealed set storage external;

-- Which plugin artifacts (files in the archive) a payload refers to.
create table artifact_use (
    sha256       text        not null,
    payload      uuid        not null references payload (id),
    removed_at   timestamptz,
    -- Whether the file was removed as well; that happens afterwards.
    is_file_gone boolean     not null default false,
    primary key (sha256, payload)
);
create index artifact_to_remove on artifact_use (removed_at)
    where removed_at is not null and not is_file_gone;

create table patient (
    id           uuid        primary key,
    -- The patient this one was merged into (HL7-30).
    merged_into  uuid        references patient (id),
    -- The current identifier and its issuer.
    value        text        not null,
    issuer       text        not null,
    demographics jsonb       not null default '{}',
    -- Changes with every change of identity, so that a stale report is recognised.
    version      int         not null default 1,
    created_at   timestamptz not null default now(),
    constraint not_merged_into_itself check (merged_into is distinct from id)
);
create index patient_merged_into on patient (merged_into) where merged_into is not null;

-- Every identifier that was ever received, and the patient it was first used for.
create table patient_identifier (
    value   text not null,
    issuer  text not null,
    patient uuid not null references patient (id),
    primary key (value, issuer)
);
create index patient_identifier_patient on patient_identifier (patient);

-- Every statement that two patients are the same, or no longer, in order, append-only.
create table patient_alias (
    from_patient uuid        not null references patient (id),
    to_patient   uuid        not null references patient (id),
    event        uuid        not null,
    at           timestamptz not null default now(),
    -- When the sender states it happened: the latest statement about two patients decides.
    asserted_at  timestamptz not null,
    is_same      boolean     not null default true,
    primary key (from_patient, to_patient, event)
);
create index patient_alias_to on patient_alias (to_patient);

-- Links leave data where it is (ADT^A24, ADT^A37). The latest statement about two patients decides.
create table patient_link (
    one         uuid        not null references patient (id),
    other       uuid        not null references patient (id),
    is_linked   boolean     not null,
    asserted_at timestamptz not null,
    event       uuid        not null,
    primary key (one, other, event)
);
create index patient_link_other on patient_link (other);

-- Reversing a merge needs two people (HL7-37).
create table unmerge_request (
    id           uuid        primary key,
    from_patient uuid        not null references patient (id),
    to_patient   uuid        not null references patient (id),
    asked_by     text        not null,
    asked_at     timestamptz not null default now(),
    approved_by  text,
    approved_at  timestamptz,
    constraint two_people check (approved_by is distinct from asked_by),
    constraint approved_whole check ((approved_by is null) = (approved_at is null))
);
