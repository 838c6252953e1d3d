-- Who may do what: the engine may add to the trail and read it, and nobody may change it.
--
-- isocenter_owner owns the trail and cannot log in. isocenter_app is what the engine works as. Where
-- the migrating user may not make roles, the triggers of 0001 are the only guard, and
-- `isocenter doctor` says so.

do $$
begin
    if exists (select from pg_roles where rolname = current_user and (rolcreaterole or rolsuper)) then
        if not exists (select from pg_roles where rolname = 'isocenter_owner') then
            create role isocenter_owner nologin;
        end if;
        if not exists (select from pg_roles where rolname = 'isocenter_app') then
            create role isocenter_app nologin;
        end if;
    end if;
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant usage on schema audit, public to isocenter_app;
        grant select, insert, update, delete on all tables in schema public to isocenter_app;
        grant usage on all sequences in schema public to isocenter_app;
        -- Bookkeeping of the migrations is read, not written.
        revoke insert, update, delete on _sqlx_migrations from isocenter_app;
        grant select on all tables in schema audit to isocenter_app;
        revoke update, delete on patient_alias from isocenter_app;
        revoke execute on all functions in schema audit from public;
        grant execute on function audit.append(uuid, jsonb) to isocenter_app;
        grant execute on function audit.seal_batch(
            bigint, bigint[], uuid[], bytea[], text, bigint, timestamptz, bytea, bytea
        ) to isocenter_app;
    end if;
    if exists (select from pg_roles where rolname = current_user and rolsuper) then
        alter schema audit owner to isocenter_owner;
        alter table audit.event owner to isocenter_owner;
        alter table audit.seal owner to isocenter_owner;
        alter table audit.batch owner to isocenter_owner;
        alter function audit.append(uuid, jsonb) owner to isocenter_owner;
        alter function audit.seal_batch(
            bigint, bigint[], uuid[], bytea[], text, bigint, timestamptz, bytea, bytea
        ) owner to isocenter_owner;
    end if;
end
$$;
