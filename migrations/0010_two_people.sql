-- Decisions of two people: which tokens they showed. Names of accounts prove nobody.
--
-- A request from before has no token; it cannot be approved any more, and has to be asked for again.

alter table unmerge_request
    add column asked_token    uuid references token (id),
    add column approved_token uuid references token (id),
    add constraint two_tokens check (
        approved_by is null or asked_token is null
        or (approved_token is not null and approved_token <> asked_token));
