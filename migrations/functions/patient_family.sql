-- All patients that were merged with `start`, directly or through others, and `start` itself.

create or replace function patient_family(start uuid) returns setof uuid
language sql stable as $$
    with recursive family (id) as (
        select patient_root(start)
        union
        select p.id from family join patient p on p.merged_into = family.id
    )
    select id from family where id is not null;
$$;
