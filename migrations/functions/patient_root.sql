-- The patient that `start` was merged into, at the end of the chain; `start` if it was not merged.
-- Null if there is no such patient.
--
-- Plans are made once per session, perhaps while the tables are empty: none may scan all patients.

create or replace function patient_root(start uuid) returns uuid
language plpgsql stable set enable_seqscan = off as $$
declare
    here uuid;
    onward uuid := start;
begin
    for step in 0..1000 loop
        here := onward;
        select merged_into into onward from patient where id = here;
        if onward is null then
            return case when found then here end;
        end if;
    end loop;
    return null;
end
$$;
