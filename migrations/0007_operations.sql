-- Operations: parts of the engine on hold, and the version of the database's functions.

-- Parts of the engine that do nothing until a person releases them, after a start in safe mode. The
-- names are those of domain::HoldPart.
create table hold (
    part  text        primary key,
    since timestamptz not null default now(),
    constraint hold_part check (part in ('intake', 'workflows', 'deliveries'))
);

-- The functions, triggers and rights that are installed: the digest of migrations/functions and
-- migrations/permissions.sql. They are installed again when the engine brings another.
create table installed_functions (
    is_only_row boolean primary key default true check (is_only_row),
    digest      bytea   not null check (length(digest) = 32)
);
