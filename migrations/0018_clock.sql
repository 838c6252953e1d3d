-- What waits for its time is measured by the database's clock. If that clock jumps, what was written before
-- is moved with it; what was written after stays.

-- Where a time is now that the clock, which last said `last`, has jumped by `by`. A timer lies ahead, a fact
-- behind.
create function moved(at timestamptz, last timestamptz, by interval, is_timer boolean)
returns timestamptz language sql stable as $$
    select case
        when by > interval '0' and at < last + by then at + by
        when by < interval '0' and is_timer and at >= last then at + by
        when by < interval '0' and not is_timer and at > clock_timestamp() then at + by
        else at
    end
$$;
