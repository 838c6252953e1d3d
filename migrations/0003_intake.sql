-- Intake: HL7 messages, orders, studies, series, instances, and requests for storage commitment.
--
-- Each row is changed in the transaction that adds the event recording the change. Nothing here is
-- evidence; the trail is.

create table message (
    id                  uuid        primary key,
    received_at         timestamptz not null default now(),
    address             text        not null,
    sending_application text        not null,
    sending_facility    text        not null,
    -- Message code and trigger event (MSH-9.1, MSH-9.2): `ORU`, `R01`.
    message_code        text        not null,
    trigger_event       text        not null,
    control_id          text        not null,
    sha256              text        not null,
    raw                 uuid        not null references payload (id),
    document            uuid        references payload (id),
    patient             uuid        references patient (id),
    accession           text        not null default '',
    acknowledgement     bytea       not null,
    code                text        not null,
    problem             text,
    -- Whether it was decided which workflows start on it.
    decided             boolean     not null,
    -- The application acknowledgement, where the sender requests both (HL7-10).
    application_acknowledgement bytea
);
create index message_control_id on message (control_id, sha256, received_at);
create index message_undecided on message (received_at) where not decided;
create index message_patient on message (patient);
create index message_received on message (received_at);

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
    changed_at          timestamptz not null default now(),
    -- Accounts and visits move to another patient with their orders (ADT^A44, ADT^A45).
    account             text        not null default '',
    visit               text        not null default ''
);
create index imaging_order_accession on imaging_order (accession) where accession <> '';
create index imaging_order_study on imaging_order (study) where study is not null;
create index imaging_order_placer on imaging_order (placer) where placer <> '';
create index imaging_order_filler on imaging_order (filler) where filler <> '';
create index imaging_order_account on imaging_order (account) where account <> '';
create index imaging_order_visit on imaging_order (visit) where visit <> '';
create index imaging_order_procedure on imaging_order (requested_procedure)
    where requested_procedure <> '';

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
    -- When the engine decides about the study next.
    decide_at      timestamptz,
    -- Where each workflow stands that has not started on it: its reason, and whether it was abandoned.
    -- Recorded in the trail when it changes.
    standings      jsonb       not null default '{}',
    -- Further keys that find the order of a study (HL7-40, rules 3 and 4).
    placer              text   not null default '',
    filler              text   not null default '',
    requested_procedure text   not null default ''
);
create index study_accession on study (accession) where accession <> '';
create index study_patient on study (patient);
create index study_decide_at on study (decide_at) where decide_at is not null;
create index study_last_received on study (last_received);

create table series (
    uid         text primary key,
    study       text not null references study (uid),
    modality    text not null,
    body_part   text not null,
    description text not null,
    -- One series has one frame of reference (DIN-61): that of the first image that names one.
    frame_of_reference text not null default ''
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
    -- Of several versions of one SOP Instance UID, the one in force (DIN-22).
    is_current      boolean     not null,
    -- What is wrong with it; the names are those of domain::QualityFlag.
    flags           text[]      not null default '{}',
    -- Whether a flag leaves uncertain what or whom it belongs to: then nothing uses it (DIN-61).
    has_identity_conflict boolean not null default false,
    -- When the engine committed to it: it is retained until policy permits otherwise (DIN-33).
    committed_at    timestamptz,
    -- When retention removed it. The row stays and states what there was.
    removed_at      timestamptz,
    -- Whether the file was removed as well; that happens afterwards.
    is_file_gone    boolean     not null default false,
    -- Created by this engine and sent back by a peer: it starts no run.
    is_own          boolean     not null default false,
    primary key (uid, sha256),
    constraint gone_after_removal check (removed_at is not null or not is_file_gone)
);
create unique index instance_current on instance (uid) where is_current;
create index instance_study on instance (study);
create index instance_to_remove on instance (removed_at)
    where removed_at is not null and not is_file_gone;

-- Which associations brought instances of a study, and whether they are still open (DIN-50..54).
create table study_association (
    study       text        not null references study (uid),
    association uuid        not null,
    ended_at    timestamptz,
    primary key (study, association)
);
create index study_association_open on study_association (association) where ended_at is null;

-- Requests of peers for storage commitment (PS3.4, Annex J): checked against the files, then
-- reported. The states are those of domain::CommitmentState.
create table commitment (
    peer            text        not null,
    transaction_uid text        not null,
    called_ae       text        not null,
    address         text        not null,
    -- SOP class and instance of each reference, as the peer wrote them.
    request         jsonb       not null,
    result          jsonb,
    state           text        not null default 'asked',
    asked_at        timestamptz not null default now(),
    run_after       timestamptz not null default now(),
    lease_until     timestamptz,
    attempt         int         not null default 0,
    reason          text        not null default '',
    primary key (peer, transaction_uid),
    constraint commitment_state check (state in ('asked', 'checked', 'reported', 'given_up')),
    constraint checked_has_result check ((state = 'asked') = (result is null))
);
create index commitment_due on commitment (run_after) where state in ('asked', 'checked');

-- The instances that a request names: evidence of what belongs to a study.
create table commitment_reference (
    peer            text not null,
    transaction_uid text not null,
    instance        text not null,
    primary key (peer, transaction_uid, instance),
    foreign key (peer, transaction_uid) references commitment (peer, transaction_uid)
);
create index commitment_reference_instance on commitment_reference (instance);

-- The answers of destinations to the engine's own requests.
create table commitment_answer (
    transaction_uid text        primary key,
    failed          jsonb       not null,
    received_at     timestamptz not null default now()
);
