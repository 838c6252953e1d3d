-- Runs: workflow versions, their activation, runs, and the nodes that make up the queue.

-- Every version of a workflow that was ever activated or run.
create table workflow_version (
    name       text        not null,
    digest     text        not null,
    definition text        not null,
    first_used timestamptz not null default now(),
    primary key (name, digest)
);

-- Which version of a workflow is active, as a history that is only added to: the newest row of a
-- name is in force.
create table workflow_activation (
    id        bigint      primary key generated always as identity,
    name      text        not null,
    -- Null: the workflow is off.
    digest    text,
    at        timestamptz not null default now(),
    by        text        not null,
    foreign key (name, digest) references workflow_version (name, digest)
);
create index workflow_activation_name on workflow_activation (name, id);

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
    -- The names are those of domain::RunStatus.
    status     text        not null default 'running',
    reason     text        not null,
    started_at timestamptz not null default now(),
    ended_at   timestamptz,
    -- The earlier run whose result this one adds to or replaces (DIN-52).
    amends     jsonb,
    -- When it should have ended; null once it was recorded that it has not.
    due_at     timestamptz,
    -- Who sent its input: the calling AE title, or the address.
    source     text        not null default '',
    -- Its place in the fair queue. No two runs of one source have the same (SEC-38).
    turn       bigint      not null default 0,
    foreign key (workflow, digest) references workflow_version (name, digest),
    constraint run_status check (status in ('running', 'completed', 'failed', 'cancelled'))
);
create index run_study on run (study);
create index run_message on run (message);
create index run_patient on run (patient);
create index run_due on run (due_at) where due_at is not null;
create index run_source on run (source, turn);
create index run_turn on run (turn);

create table run_instance (
    run    uuid not null references run (id),
    uid    text not null,
    sha256 text not null,
    primary key (run, uid),
    foreign key (uid, sha256) references instance (uid, sha256)
);

-- The nodes of runs; those that are ready are the queue. A source that sends much does not hold up
-- one that sends little: of equally urgent nodes the sources take turns (SEC-38).
create table node (
    run         uuid        not null references run (id),
    node        text        not null,
    -- The names are those of contracts::NodeState.
    state       text        not null,
    plugin      jsonb,
    priority    smallint    not null,
    run_after   timestamptz not null default now(),
    lease_until timestamptz,
    -- Counts the attempts. Only the newest may end the node.
    attempt     int         not null default 0,
    output      uuid        references payload (id),
    reason      text        not null default '',
    changed_at  timestamptz not null default now(),
    -- When it should have ended; null once it was recorded that it has not.
    due_at      timestamptz,
    turn        bigint      not null default 0,
    primary key (run, node),
    constraint node_state check (state in
        ('waiting', 'ready', 'running', 'in_review', 'done', 'failed', 'skipped', 'cancelled')),
    constraint running_has_lease check ((state = 'running') = (lease_until is not null))
);
create index node_queue on node (priority, turn, run_after) where state = 'ready';
create index node_turn on node (priority, turn) where state in ('ready', 'running');
create index node_leases on node (lease_until) where state = 'running';
create index node_due on node (due_at) where due_at is not null;
create index node_in_review on node (changed_at) where state = 'in_review';
