-- Whether a message waits to be decided on. Asked often: the cost must not grow with what is stored.

create or replace function is_message_due() returns boolean
language plpgsql stable set enable_seqscan = off as $$
begin
    return exists (select from message where not decided)
        and not exists (select from hold where part = 'workflows');
end
$$;
