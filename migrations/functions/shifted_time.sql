-- Where a stored time lies after the clock jumped by `jump_micros`, having last read `last_micros`.
--
-- What waits for its time is measured by the clock of the database. If that clock jumps, the times
-- written before the jump move with it; the times written after stay. A `fact` lies in the past. A
-- `timer` lies in the future, or has expired and waits in a queue. A `deadline` lies in the future,
-- or was missed. After a jump ahead, a time further ahead than the jump cannot be distinguished from
-- one written after, and stays.

create or replace function shifted_time(
    moment timestamptz, last_micros bigint, jump_micros bigint, kind text
) returns timestamptz language plpgsql stable as $$
declare
    since timestamptz := at_micros(last_micros);
    jump interval := jump_micros * interval '1 microsecond';
begin
    if jump_micros > 0 then
        return case when moment < since + jump then moment + jump else moment end;
    end if;
    return case
        when kind = 'fact' then
            case when moment > clock_timestamp() then moment + jump else moment end
        when moment >= since then moment + jump
        when kind = 'timer' and moment > clock_timestamp() then clock_timestamp()
        else moment
    end;
end
$$;
