-- Adds the seals of a batch of events and the signature over them.
--
-- It runs with the rights of its owner, who owns the trail.

create or replace function audit.seal_batch(
    number bigint, seqs bigint[], events uuid[], hashes bytea[],
    last_xid text, last_position bigint, sealed_at timestamptz,
    root bytea, signature bytea
) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into audit.seal (seq, event, hash)
        select * from unnest(seqs, events, hashes);
    insert into audit.batch values (
        number, seqs[1], seqs[array_upper(seqs, 1)], last_xid::xid8, last_position, sealed_at, root,
        hashes[array_upper(hashes, 1)], signature);
$$;
