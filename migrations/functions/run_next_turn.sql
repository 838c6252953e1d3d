-- The place of a source's next run in the fair queue (SEC-38): after the last run of the source, and
-- not before the run whose turn it is. A source that sends nothing for a while saves up no turns.

create or replace function run_next_turn(sender text, urgency smallint) returns bigint
language plpgsql stable set enable_seqscan = off as $$
begin
    return greatest(
        (select max(turn) + 1 from run where source = sender),
        -- The current turn: of what is worked on, else of what is next, else of what was last.
        coalesce(
            (select max(turn) from node where priority = urgency and state = 'running'),
            (select min(turn) from node
                where priority = urgency and state = 'ready' and run_after <= clock_timestamp()),
            (select max(turn) from run)),
        0);
end
$$;
