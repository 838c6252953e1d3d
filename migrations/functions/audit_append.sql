-- Adds events to the trail, one or many. Nothing else can: nobody may insert directly.
--
-- It runs with the rights of its owner, who owns the trail. plpgsql, so that the statement is planned
-- once per session and not with every call.

create or replace function audit.append(id uuid, body jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into audit.event (id, body) values ($1, $2);
end
$$;

-- Adds many events with one statement, in the order of the arrays: the cost of a statement, and of
-- checking each row, was most of what an instance or a message cost the database.
create or replace function audit.append(ids uuid[], bodies jsonb[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into audit.event (id, body)
        select given.id, given.body
        from unnest($1, $2) with ordinality given (id, body, place) order by given.place;
end
$$;
