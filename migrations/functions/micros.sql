-- Times pass between the engine and the database as microseconds since 1970.

create or replace function micros(at timestamptz) returns bigint
language sql immutable as $$ select (extract(epoch from at) * 1000000)::bigint $$;

create or replace function at_micros(micros bigint) returns timestamptz
language sql immutable as $$ select timestamptz 'epoch' + micros * interval '1 microsecond' $$;
