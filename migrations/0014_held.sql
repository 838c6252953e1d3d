-- Parts of the engine that do nothing until a person releases them: after a start in safe mode.
create table held (
    part  text        primary key,
    since timestamptz not null default now(),
    constraint held_part check (part in ('intake', 'workflows', 'deliveries'))
);

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert, delete on held to isocenter_app;
    end if;
end
$$;
