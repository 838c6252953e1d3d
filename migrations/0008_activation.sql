-- Which version of a workflow is at work: a history that is only added to. The newest line of a name
-- counts.

create table workflow_activation (
    id        bigint      primary key generated always as identity,
    name      text        not null,
    -- Nothing: it is turned off.
    digest    text,
    at        timestamptz not null default now(),
    by        text        not null,
    foreign key (name, digest) references workflow_version (name, digest)
);
create index workflow_activation_name on workflow_activation (name, id);

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert on workflow_activation to isocenter_app;
        grant usage on all sequences in schema public to isocenter_app;
    end if;
end
$$;
