-- Refuses to change or remove anything in the trail, whoever tries.

create or replace function audit.refuse() returns trigger
language plpgsql as $$
begin
    raise exception 'the trail is append-only' using errcode = 'restrict_violation';
end
$$;

create or replace trigger event_stays before update or delete on audit.event
    for each row execute function audit.refuse();
create or replace trigger event_stays_whole before truncate on audit.event
    for each statement execute function audit.refuse();
create or replace trigger seal_stays before update or delete on audit.seal
    for each row execute function audit.refuse();
create or replace trigger seal_stays_whole before truncate on audit.seal
    for each statement execute function audit.refuse();
create or replace trigger batch_stays before update or delete on audit.batch
    for each row execute function audit.refuse();
create or replace trigger batch_stays_whole before truncate on audit.batch
    for each statement execute function audit.refuse();
