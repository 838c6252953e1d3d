-- What is asked on the way in costs the same however much is kept. Plans are made once in a session,
-- perhaps when the tables were empty: none of them may be to read all of a table.

alter function keep_together set enable_seqscan = off;
alter function patient_root set enable_seqscan = off;

-- Whether a study waits to be decided on.
create function is_study_due(now timestamptz) returns boolean
language plpgsql stable set enable_seqscan = off as $$
begin
    return exists (select from study where look_at <= now)
        and not exists (select from held where part = 'workflows');
end
$$;

-- Whether a message does.
create function is_message_due() returns boolean
language plpgsql stable set enable_seqscan = off as $$
begin
    return exists (select from message where not decided)
        and not exists (select from held where part = 'workflows');
end
$$;

-- What is encrypted cannot be made smaller: the database need not try.
alter table payload alter column sealed set storage external;
