-- How destinations fare: whether somebody paused one, and whether it answers.
--
-- After several failures in a row nothing is tried for a while (a breaker), so that one that is down
-- costs no time of others; then one delivery tries.

create table destination_state (
    name       text        primary key,
    is_paused  boolean     not null default false,
    paused_by  text,
    failures   int         not null default 0,
    open_until timestamptz,
    last_error text        not null default '',
    last_ok    timestamptz
);

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert, update, delete on destination_state to isocenter_app;
    end if;
end
$$;
