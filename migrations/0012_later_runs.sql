-- Later runs: which run adds to or replaces an earlier one is looked up from the earlier one, too.
-- A signed result stands until a person signs the later one.

create index run_amended on run ((amends ->> 'run')) where amends is not null;
