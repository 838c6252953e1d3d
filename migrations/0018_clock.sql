-- What waits for its time is measured by the database's clock. If that clock jumps, what was written before
-- is moved with it; what was written after stays.

-- Where a time is now that the clock, which last said `last_micros`, has jumped by `by_micros`:
-- a `fact` lies behind; a `timer` lies ahead, or is over and waits in a queue; a `deadline` lies ahead, or
-- was missed. After a jump ahead, what lies further ahead than that cannot be told from what is new, and stays.
create function moved(at timestamptz, last_micros bigint, by_micros bigint, kind text)
returns timestamptz language plpgsql stable as $$
declare
    last timestamptz := at_micros(last_micros);
    by interval := by_micros * interval '1 microsecond';
begin
    if by_micros > 0 then
        return case when at < last + by then at + by else at end;
    end if;
    return case
        when kind = 'fact' then case when at > clock_timestamp() then at + by else at end
        when at >= last then at + by
        when kind = 'timer' and at > clock_timestamp() then clock_timestamp()
        else at
    end;
end
$$;
