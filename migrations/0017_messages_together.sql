-- Keeps many messages with one question, so that a laboratory's results come in as fast as they are read.
--
-- It takes those of which there is nothing more to find out: they come for the first time (HL7-13), and what
-- the engine knows of their patients and keys still holds. It gives their places among those it was given.
-- All others it leaves alone: the engine looks at each of them closely.

create function keep_messages(
    places bigint[], ids uuid[], addresses text[], applications text[], facilities text[],
    types text[], control_ids text[], digests text[], raws uuid[], sealed_raws bytea[],
    documents uuid[], sealed_documents bytea[], key_ids uuid[], patients uuid[],
    patient_demographics jsonb[], accessions text[], acknowledgements bytea[], codes text[],
    problems text[], application_acknowledgements bytea[], kinds text[], events uuid[],
    bodies jsonb[]
) returns setof bigint
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    -- Merges stay away until the transaction ends.
    perform pg_advisory_xact_lock_shared(x'1D0001'::bigint);
    return query
    with given as materialized (
        select * from unnest(places, ids, addresses, applications, facilities, types, control_ids,
            digests, raws, sealed_raws, documents, sealed_documents, key_ids, patients,
            patient_demographics, accessions, acknowledgements, codes, problems,
            application_acknowledgements, kinds, events, bodies)
            it (place, id, address, application, facility, message_type, control_id, sha256, raw,
                sealed_raw, document, sealed_document, key, patient, demographics, accession,
                acknowledgement, code, problem, application_acknowledgement, kind, event, body)
    ), plain as materialized (
        select g.* from given g
        join patient p on p.id = g.patient and p.demographics = g.demographics
        join payload_key k on k.id = g.key and k.destroyed_at is null
        where not exists (select from message m
            where m.control_id = g.control_id and m.sha256 = g.sha256
                and m.sending_application = g.application and m.sending_facility = g.facility
                and m.received_at > now() - interval '7 days')
    ), added_raws as (
        insert into payload (id, key, kind, sealed) select p.raw, p.key, 'hl7', p.sealed_raw from plain p
    ), added_documents as (
        insert into payload (id, key, kind, sealed)
        select p.document, p.key, 'document', p.sealed_document from plain p where p.document is not null
    ), added as (
        insert into message (id, address, sending_application, sending_facility, message_type,
            control_id, sha256, raw, document, patient, accession, acknowledgement, code, problem,
            decided, application_acknowledgement)
        select p.id, p.address, p.application, p.facility, p.message_type, p.control_id, p.sha256,
            p.raw, p.document, p.patient, p.accession, p.acknowledgement, p.code, p.problem,
            p.problem is not null, p.application_acknowledgement
        from plain p
    ), noted as (
        -- It may be a correction of ours.
        insert into returned (source, origin, accession)
        select p.kind, p.id::text, p.accession from plain p where p.kind is not null
        on conflict do nothing
    ), told as materialized (
        select audit.append(p.event, p.body) from plain p order by p.place
    )
    select p.place from plain p where (select count(*) from told) > 0;
end
$$;
