-- Adds the events of many with one statement: what a statement costs by itself, and what it costs to check
-- each row, was most of what an instance or a message cost the database.

-- Adds many events, in the order in which they are given.
create function audit.append(ids uuid[], bodies jsonb[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into audit.event (id, body)
        select it.id, it.body from unnest($1, $2) with ordinality it (id, body, place) order by it.place;
end
$$;

do $$
declare
    holder name := (select tableowner from pg_tables where schemaname = 'audit' and tablename = 'event');
begin
    revoke execute on function audit.append(uuid[], jsonb[]) from public;
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant execute on function audit.append(uuid[], jsonb[]) to isocenter_app;
    end if;
    -- It adds with the rights of whose table it is.
    if holder <> current_user then
        execute format('alter function audit.append(uuid[], jsonb[]) owner to %I', holder);
    end if;
end
$$;

-- As before (migration 0013), with each step a statement of its own that is planned once.
create or replace function keep_together(
    studies text[], series_uids text[], instances text[], digests text[], classes text[],
    syntaxes text[], lengths bigint[], calling text[], all_flags jsonb[], own boolean[],
    associations uuid[], modalities text[], frames text[], id_values text[], id_issuers text[],
    events uuid[], bodies jsonb[]
) returns setof bigint
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    -- Places of those that are plain, and whose they are.
    plain bigint[];
    patients uuid[];
begin
    -- Merges stay away until the transaction ends; what is read from here on sees those that were.
    perform pg_advisory_xact_lock_shared(x'1D0001'::bigint);
    perform from study where uid = any(studies) order by uid for update;

    select array_agg(g.place order by g.place), array_agg(t.patient order by g.place)
    into plain, patients
    from unnest(studies, series_uids, instances, all_flags, modalities, frames, id_values, id_issuers)
        with ordinality g (study, series, instance, flags, modality, frame, value, issuer, place)
    join lateral (
        select patient_root(it.patient) as patient from study it where it.uid = g.study offset 0
    ) t on true
    join series s on s.uid = g.series and s.study = g.study and s.modality = g.modality
        and (g.frame = '' or g.frame = s.frame_of_reference)
    left join patient_identifier n on n.value = g.value and n.issuer = g.issuer
    where (g.value is null) = (n.patient is null)
        and (n.patient is not distinct from t.patient or patient_root(n.patient) = t.patient)
        -- What others made of ours is compared with what we made.
        and g.modality not in ('SEG', 'SR')
        -- What has a malformed name is flagged, and used by nothing.
        and not exists (select from jsonb_array_elements_text(g.flags) it (flag)
            where starts_with(it.flag, 'identity_'))
        and not exists (select from instance i where i.uid = g.instance)
        and cardinality(array_positions(instances, g.instance)) = 1;
    if plain is null then
        return;
    end if;

    insert into instance (uid, sha256, series, study, sop_class, transfer_syntax, bytes,
        calling_ae, is_current, flags, is_own)
    select instances[p], digests[p], series_uids[p], studies[p], classes[p], syntaxes[p], lengths[p],
        calling[p], true, array(select jsonb_array_elements_text(all_flags[p])), own[p]
    from unnest(plain) p;

    insert into study_association (study, association)
    select distinct studies[p], associations[p] from unnest(plain) p on conflict do nothing;

    -- If a look is due already, it will see these instances too.
    update study set last_received = clock_timestamp(),
        look_at = coalesce(look_at, clock_timestamp() + interval '200 milliseconds')
    where uid = any(array(select studies[p] from unnest(plain) p));

    perform audit.append(
        array(select events[p] from unnest(plain) with ordinality it (p, at) order by it.at),
        array(select case when it.patient is null then bodies[it.p]
                else jsonb_set(bodies[it.p], '{subject,patient}', to_jsonb(it.patient)) end
            from unnest(plain, patients) with ordinality it (p, patient, at) order by it.at));
    return query select unnest(plain);
end
$$;

-- As before (migration 0017), but for the events.
create or replace function keep_messages(
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
        select audit.append(array_agg(p.event order by p.place), array_agg(p.body order by p.place))
        from plain p
    )
    select p.place from plain p where (select count(*) from told) > 0;
end
$$;
