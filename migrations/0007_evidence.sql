-- Evidence of whether a study is complete (DIN-50..54), and what a run follows.

-- Which associations brought instances of a study, and whether they still may.
create table study_association (
    study       text        not null references study (uid),
    association uuid        not null,
    ended_at    timestamptz,
    primary key (study, association)
);
create index study_association_open on study_association (association) where ended_at is null;

-- The earlier run whose result this one adds to or replaces (DIN-52).
alter table run add column amends jsonb;

-- By when a run or a node should have ended, and whether it was said that it has not.
alter table run add column due_at timestamptz;
alter table node add column due_at timestamptz;
create index run_due on run (due_at) where due_at is not null;
create index node_due on node (due_at) where due_at is not null;

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert, update, delete on study_association to isocenter_app;
    end if;
end
$$;
