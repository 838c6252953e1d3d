-- Storage commitment, both ways (PS3.4, Annex J).
--
-- Peers ask us to answer for what they sent: their requests wait here to be checked against the
-- files, and then to be answered. What we sent to a PACS that is to commit it is `promised` until
-- its answer has come.

create table commitment (
    peer            text        not null,
    transaction_uid text        not null,
    called_ae       text        not null,
    address         text        not null,
    -- SOP class and instance of each reference, in the peer's words.
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

-- The instances a peer says it has sent: evidence of what belongs to a study.
create table commitment_reference (
    peer            text not null,
    transaction_uid text not null,
    instance        text not null,
    primary key (peer, transaction_uid, instance),
    foreign key (peer, transaction_uid) references commitment (peer, transaction_uid)
);
create index commitment_reference_instance on commitment_reference (instance);

-- When we began to answer for an instance: it is kept until policy says otherwise (DIN-33).
alter table instance add column committed_at timestamptz;

-- What a PACS answered to us.
create table commitment_answer (
    transaction_uid text        primary key,
    failed          jsonb       not null,
    received_at     timestamptz not null default now()
);

alter table delivery add column commitment text unique;
alter table delivery drop constraint delivery_state;
alter table delivery add constraint delivery_state check (state in
    ('queued', 'sending', 'promised', 'delivered', 'failed', 'blocked'));

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert, update, delete
            on commitment, commitment_reference, commitment_answer to isocenter_app;
    end if;
end
$$;
