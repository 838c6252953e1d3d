-- What was removed because its time was over. The rows stay: they say what there was, and the trail
-- says when it went.

alter table instance add column removed_at timestamptz;
-- Whether its file has been removed, too: that comes after.
alter table instance add column is_file_gone boolean not null default false;
alter table instance add constraint gone_after_removal check (removed_at is not null or not is_file_gone);
create index instance_to_remove on instance (removed_at) where removed_at is not null and not is_file_gone;
create index study_last_received on study (last_received);
create index message_received on message (received_at);

alter table payload alter column sealed drop not null;
alter table payload add column removed_at timestamptz;
alter table payload add constraint removed_or_there check ((sealed is null) = (removed_at is not null));

-- Which files of plugins a payload speaks of.
create table artifact_use (
    sha256       text        not null,
    payload      uuid        not null references payload (id),
    removed_at   timestamptz,
    is_file_gone boolean     not null default false,
    primary key (sha256, payload)
);
create index artifact_to_remove on artifact_use (removed_at) where removed_at is not null and not is_file_gone;

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert, update, delete on artifact_use to isocenter_app;
    end if;
end
$$;
