-- Keeps many instances with one question, so that a study comes in as fast as the disk takes it.
--
-- It takes those of which there is nothing more to find out: they are new, their study and series are
-- known, and they contradict neither (DIN-61). It gives their places among those it was given. All
-- others it leaves alone: the engine looks at each of them closely.

-- Both as before, but planned once in a session rather than anew with every question.
create or replace function audit.append(id uuid, body jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into audit.event (id, body) values ($1, $2);
end
$$;

create or replace function patient_root(start uuid) returns uuid
language plpgsql stable as $$
declare
    here uuid;
    onward uuid := start;
begin
    for step in 0..1000 loop
        here := onward;
        select merged_into into onward from patient where id = here;
        if onward is null then
            return case when found then here end;
        end if;
    end loop;
    return null;
end
$$;

create function keep_together(
    studies text[], series_uids text[], instances text[], digests text[], classes text[],
    syntaxes text[], lengths bigint[], calling text[], all_flags jsonb[], own boolean[],
    associations uuid[], modalities text[], frames text[], id_values text[], id_issuers text[],
    events uuid[], bodies jsonb[]
) returns setof bigint
language plpgsql set plan_cache_mode = force_generic_plan as $$
begin
    -- Merges stay away until the transaction ends; what is read from here on sees those that were.
    perform pg_advisory_xact_lock_shared(x'1D0001'::bigint);
    perform from study where uid = any(studies) order by uid for update;
    return query
    with given as materialized (
        select * from unnest(studies, series_uids, instances, digests, classes, syntaxes, lengths,
            calling, all_flags, own, associations, modalities, frames, id_values, id_issuers, events,
            bodies) with ordinality
            it (study, series, instance, sha256, sop_class, transfer_syntax, bytes, calling_ae, flags,
                is_own, association, modality, frame, value, issuer, event, body, place)
    ), known_study as materialized (
        select uid, patient_root(patient) as patient from study where uid = any(studies)
    ), known_name as materialized (
        select i.value, i.issuer, patient_root(i.patient) as patient
        from (select distinct value, issuer from given where value is not null) named
        join patient_identifier i on i.value = named.value and i.issuer = named.issuer
    ), plain as materialized (
        select g.*, n.patient from given g
        join known_study t on t.uid = g.study
        join series s on s.uid = g.series and s.study = g.study and s.modality = g.modality
            and (g.frame = '' or g.frame = s.frame_of_reference)
        left join known_name n on n.value = g.value and n.issuer = g.issuer
        where (g.value is null) = (n.patient is null) and n.patient is not distinct from t.patient
            -- What others made of ours is compared with what we made.
            and g.modality not in ('SEG', 'SR')
            -- What has a malformed name is flagged, and used by nothing.
            and not exists (select from jsonb_array_elements_text(g.flags) it (flag)
                where starts_with(it.flag, 'identity_'))
            and not exists (select from instance i where i.uid = g.instance)
            and not exists (select from given twin
                where twin.instance = g.instance and twin.place <> g.place)
    ), added as (
        insert into instance (uid, sha256, series, study, sop_class, transfer_syntax, bytes,
            calling_ae, is_current, flags, is_own)
        select p.instance, p.sha256, p.series, p.study, p.sop_class, p.transfer_syntax, p.bytes,
            p.calling_ae, true, array(select jsonb_array_elements_text(p.flags)), p.is_own from plain p
    ), heard as (
        insert into study_association (study, association)
        select distinct p.study, p.association from plain p on conflict do nothing
    ), woken as (
        -- If a look is due already, it will see these instances too.
        update study set last_received = clock_timestamp(),
            look_at = coalesce(look_at, clock_timestamp() + interval '200 milliseconds')
        where uid in (select p.study from plain p)
    ), told as materialized (
        select audit.append(p.event, case when p.patient is null then p.body
            else jsonb_set(p.body, '{subject,patient}', to_jsonb(p.patient)) end) from plain p
    )
    select p.place from plain p where (select count(*) from told) > 0;
end
$$;
