-- What this engine made and others sent back: it starts no run, whatever kind of object it is.
alter table instance add column is_own boolean not null default false;
