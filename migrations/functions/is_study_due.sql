-- Whether a study waits to be decided on. Asked often: the cost must not grow with what is stored.

create or replace function is_study_due(now timestamptz) returns boolean
language plpgsql stable set enable_seqscan = off as $$
begin
    return exists (select from study where decide_at <= now)
        and not exists (select from hold where part = 'workflows');
end
$$;
