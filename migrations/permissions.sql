-- Who may do what: the engine may add to the trail and read it, and nobody may change it.
--
-- isocenter_owner owns the trail and cannot log in. isocenter_app is the role the engine works as.
-- Where the preparing user may not create roles, the triggers of functions/audit_refuse.sql are the
-- only guard, and `isocenter doctor` reports it. Run after the migrations and functions, whenever
-- one of them changed; running it again changes nothing.

revoke execute on all functions in schema audit from public;

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
        grant select on all tables in schema audit to isocenter_app;
        grant execute on function audit.append(uuid, jsonb), audit.append(uuid[], jsonb[]),
            audit.seal_batch(
                bigint, bigint[], uuid[], bytea[], text, bigint, timestamptz, bytea, bytea
            ) to isocenter_app;

        grant select, insert, update, delete on all tables in schema public to isocenter_app;
        grant usage on all sequences in schema public to isocenter_app;
        -- How the database was prepared is read, not written.
        revoke insert, update, delete on _sqlx_migrations, installed_functions from isocenter_app;
        -- History is only added to.
        revoke update, delete on patient_alias, patient_link, workflow_activation, run_version,
            run_revision from isocenter_app;
        revoke delete on unmerge_request from isocenter_app;
        revoke update on hold from isocenter_app;
    end if;
    if exists (select from pg_roles where rolname = current_user and rolsuper) then
        alter schema audit owner to isocenter_owner;
        alter table audit.event owner to isocenter_owner;
        alter table audit.seal owner to isocenter_owner;
        alter table audit.batch owner to isocenter_owner;
        -- They add with the rights of the owner of the tables.
        alter function audit.append(uuid, jsonb) owner to isocenter_owner;
        alter function audit.append(uuid[], jsonb[]) owner to isocenter_owner;
        alter function audit.seal_batch(
            bigint, bigint[], uuid[], bytea[], text, bigint, timestamptz, bytea, bytea
        ) owner to isocenter_owner;
    end if;
end
$$;
