-- Whether a destination received a delivery repeatedly without a cause: within an hour it arrived
-- more than three times beyond what asked for it. What asks for it is each content that was
-- composed (a change of identity, of orders or of the result), a change of identity or a new order
-- after it had arrived, and each person who had it sent again. A run may have several deliveries to a
-- destination: they are counted together, with what asks for each of them.
--
-- Plans are made once per session, perhaps while the tables are empty: none may scan all events.

create or replace function is_delivery_repeated(of_run uuid, to_destination text) returns boolean
language plpgsql stable set enable_seqscan = off as $$
begin
    return (
        select count(*) filter (where kind = 'delivery_promised'
                or kind = 'delivered' and body #> '{detail,commitment}' is null)
            - count(distinct body #> '{detail,outputs}') filter (where kind = 'report_composed')
            - count(*) filter (where kind in ('delivery_resent', 'order_linked_after_delivery')
                or kind = 'identity_changed_after_delivery'
                    and body #> '{detail,delivery}' is not null)
            > 3
        from audit.event
        where run = of_run and at > clock_timestamp() - interval '1 hour'
            and body #>> '{subject,destination}' = to_destination);
end
$$;
