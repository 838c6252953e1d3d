-- Whether a wait is over: its end has come, or lies further ahead than such a wait ever lasts. Then
-- it was written under a clock that was ahead, and would hold something back for as long as that.

create or replace function is_due(until timestamptz, seconds_max double precision) returns boolean
language sql volatile as $$
    select until <= clock_timestamp()
        or until > clock_timestamp() + seconds_max * interval '1 second'
$$;
