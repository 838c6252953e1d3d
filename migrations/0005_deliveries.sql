-- Deliveries: reports on their way to destinations, and how the destinations fare.

create table delivery (
    id          uuid        primary key,
    -- The order of sending, per destination and patient (HL7-14).
    position    bigint      not null generated always as identity,
    run         uuid        not null references run (id),
    index       int         not null,
    destination text        not null,
    what        jsonb       not null,
    patient     uuid        references patient (id),
    -- The names are those of domain::DeliveryState.
    state       text        not null default 'queued',
    attempt     int         not null default 0,
    run_after   timestamptz not null default now(),
    lease_until timestamptz,
    -- Why it is in its state, for people.
    reason      text        not null default '',
    -- Why it must not be sent, for the engine; the names are those of domain::BlockReason.
    blocked_by  text,
    -- What was composed.
    composed    uuid        references payload (id),
    -- Everything it was composed from, as one text: composed again if any of it changes.
    composed_stamp   text,
    -- The patient it was composed for, and the version of the result.
    composed_patient uuid,
    composed_version int,
    ended_at    timestamptz,
    -- Transaction UID of the storage commitment that the destination is to give.
    commitment  text        unique,
    -- It was delivered under an identity that no longer holds (HL7-34).
    is_stale    boolean     not null default false,
    -- What the destination has: what was composed then, and the version of the result.
    sent        uuid        references payload (id),
    sent_version int        not null default 0,
    unique (run, index),
    constraint delivery_state check (state in
        ('queued', 'sending', 'promised', 'delivered', 'failed', 'blocked')),
    constraint sending_has_lease check ((state = 'sending') = (lease_until is not null)),
    constraint blocked_has_cause check ((state = 'blocked') = (blocked_by is not null))
);
create index delivery_queue on delivery (destination, position) where state in ('queued', 'sending');
create index delivery_stale on delivery (position) where is_stale;

-- The state of each destination: whether a person paused it, and whether it answers.
--
-- After several failures in a row nothing is sent for a while (a circuit breaker), so that a
-- destination that is down costs the others no time; then one delivery is attempted.
create table destination_state (
    name       text        primary key,
    is_paused  boolean     not null default false,
    paused_by  text,
    failures   int         not null default 0,
    open_until timestamptz,
    last_error text        not null default '',
    last_ok    timestamptz
);
