-- Who sends much does not keep those waiting who send little (SEC-38): of runs that are equally urgent,
-- each sender's come in turn.

alter table run
    -- Who sent what it runs on: the calling AE title, or the address.
    add column source text not null default '',
    -- Its turn. Of each sender no two have the same.
    add column turn bigint not null default 0;
alter table node add column turn bigint not null default 0;

create index run_source on run (source, turn);
create index run_turn on run (turn);
create index node_turn on node (priority, turn) where state in ('ready', 'running');

drop index node_queue;
create index node_queue on node (priority, turn, run_after) where state = 'ready';

-- The turn of a sender's next run: after its last one; but it saves none up while it sends nothing.
create function next_turn(sender text, urgency smallint) returns bigint
language plpgsql stable set enable_seqscan = off as $$
begin
    return greatest(
        (select max(turn) + 1 from run where source = sender),
        -- Whose turn it is: what is worked on, else what is next, else what was last.
        coalesce(
            (select max(turn) from node where priority = urgency and state = 'running'),
            (select min(turn) from node
                where priority = urgency and state = 'ready' and run_after <= clock_timestamp()),
            (select max(turn) from run)),
        0);
end
$$;
