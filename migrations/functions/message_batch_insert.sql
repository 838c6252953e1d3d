-- Inserts a batch of messages with one statement, so that a laboratory's results arrive as fast as
-- they are read.
--
-- It inserts the plain ones, of which nothing more has to be found out: they are new (HL7-13), and
-- what the engine knew of their patients and keys still holds. It returns their places as given.
-- The others it leaves alone: the engine decides about each of them individually
-- (engine/store/src/intake/message.rs), and must decide the same about a plain one.

create or replace function message_batch_insert(
    places bigint[], ids uuid[], addresses text[], applications text[], facilities text[],
    message_codes text[], trigger_events text[], control_ids text[], digests text[], raws uuid[],
    sealed_raws bytea[], documents uuid[], sealed_documents bytea[], key_ids uuid[], patients uuid[],
    patient_demographics jsonb[], accessions text[], acknowledgements bytea[], codes text[],
    problems text[], application_acknowledgements bytea[], sources text[], events uuid[],
    bodies jsonb[]
) returns setof bigint
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    -- No merge is made until the transaction ends.
    perform pg_advisory_xact_lock_shared(x'1D0001'::bigint);
    return query
    with given as materialized (
        select * from unnest(places, ids, addresses, applications, facilities, message_codes,
            trigger_events, control_ids, digests, raws, sealed_raws, documents, sealed_documents,
            key_ids, patients, patient_demographics, accessions, acknowledgements, codes, problems,
            application_acknowledgements, sources, events, bodies)
            it (place, id, address, application, facility, message_code, trigger_event, control_id,
                sha256, raw, sealed_raw, document, sealed_document, key, patient, demographics,
                accession, acknowledgement, code, problem, application_acknowledgement, source,
                event, body)
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
        insert into message (id, address, sending_application, sending_facility, message_code,
            trigger_event, control_id, sha256, raw, document, patient, accession, acknowledgement,
            code, problem, decided, application_acknowledgement)
        select p.id, p.address, p.application, p.facility, p.message_code, p.trigger_event,
            p.control_id, p.sha256, p.raw, p.document, p.patient, p.accession, p.acknowledgement,
            p.code, p.problem, p.problem is not null, p.application_acknowledgement
        from plain p
    ), possible_corrections as (
        -- A report may correct one of the engine's.
        insert into correction (source, origin, accession)
        select p.source, p.id::text, p.accession from plain p where p.source is not null
        on conflict do nothing
    ), recorded as materialized (
        select audit.append(array_agg(p.event order by p.place), array_agg(p.body order by p.place))
        from plain p
    )
    select p.place from plain p where (select count(*) from recorded) > 0;
end
$$;
