-- Inserts a batch of instances with one statement, so that a study arrives as fast as the disk
-- stores it.
--
-- It inserts the plain ones, of which nothing more has to be found out: they are new, their study
-- and series are known, and they contradict neither (DIN-61). It returns their places in the arrays,
-- from 1. The others it leaves alone: the engine decides about each of them individually
-- (engine/store/src/intake/instance.rs), and must decide the same about a plain one.
--
-- Each step is a statement of its own that is planned once per session. Plans may be made while the
-- tables are empty: none may scan a whole table.

create or replace function instance_batch_insert(
    studies text[], series_uids text[], instances text[], digests text[], classes text[],
    syntaxes text[], lengths bigint[], calling text[], all_flags jsonb[], conflicting boolean[],
    own boolean[], associations uuid[], modalities text[], frames text[], id_values text[],
    id_issuers text[], events uuid[], bodies jsonb[]
) returns setof bigint
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    -- The places of the plain ones, and their patients.
    plain bigint[];
    patients uuid[];
begin
    -- No merge is made until the transaction ends; what is read from here on sees the earlier ones.
    perform pg_advisory_xact_lock_shared(x'1D0001'::bigint);
    perform from study where uid = any(studies) order by uid for update;

    select array_agg(g.place order by g.place), array_agg(t.patient order by g.place)
    into plain, patients
    from unnest(studies, series_uids, instances, conflicting, modalities, frames, id_values,
            id_issuers)
        with ordinality g (study, series, instance, is_conflicting, modality, frame, value, issuer,
            place)
    join lateral (
        select patient_root(s.patient) as patient from study s where s.uid = g.study offset 0
    ) t on true
    join series s on s.uid = g.series and s.study = g.study and s.modality = g.modality
        and (g.frame = '' or g.frame = s.frame_of_reference)
    left join patient_identifier n on n.value = g.value and n.issuer = g.issuer
    where (g.value is null) = (n.patient is null)
        and (n.patient is not distinct from t.patient or patient_root(n.patient) = t.patient)
        -- Objects that others derived from the engine's are compared with what it made.
        and g.modality not in ('SEG', 'SR')
        -- It is uncertain what or whom the instance belongs to: it is flagged, and nothing uses it.
        and not g.is_conflicting
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

    -- A decision that is due already will include these instances.
    update study set last_received = clock_timestamp(),
        decide_at = coalesce(decide_at, clock_timestamp() + interval '200 milliseconds')
    where uid = any(array(select studies[p] from unnest(plain) p));

    perform audit.append(
        array(select events[p] from unnest(plain) with ordinality it (p, at) order by it.at),
        array(select case when it.patient is null then bodies[it.p]
                else jsonb_set(bodies[it.p], '{subject,patient}', to_jsonb(it.patient)) end
            from unnest(plain, patients) with ordinality it (p, patient, at) order by it.at));
    return query select unnest(plain);
end
$$;
