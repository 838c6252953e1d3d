-- What waits for its time is measured by the database's clock. If that clock jumps, what was written before
-- is moved with it; what was written after stays.

-- Where a time is now that the clock, which last said `last_micros`, has jumped by `jump_micros`:
-- a `fact` lies behind; a `timer` lies ahead, or is over and waits in a queue; a `deadline` lies ahead, or
-- was missed. After a jump ahead, what lies further ahead than that cannot be told from what is new, and stays.
create function moved(moment timestamptz, last_micros bigint, jump_micros bigint, kind text)
returns timestamptz language plpgsql stable as $$
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
