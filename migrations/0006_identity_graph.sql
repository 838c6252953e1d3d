-- Who turned out to be whom, as a graph that is only ever added to (HL7-30..37).
--
-- patient_alias holds every word on two patients: that they are the same, or that this is taken
-- back. Who is whose root follows from all of it, and lies in patient.merged_into to be read fast.

alter table patient_alias add column asserted_at timestamptz;
alter table patient_alias add column is_same boolean not null default true;
update patient_alias set asserted_at = at;
alter table patient_alias alter column asserted_at set not null;
create index patient_alias_to on patient_alias (to_patient);

-- Links keep data where they are (ADT^A24, ADT^A37). The latest word on two patients counts.
create table patient_link (
    one         uuid        not null references patient (id),
    other       uuid        not null references patient (id),
    is_linked   boolean     not null,
    asserted_at timestamptz not null,
    event       uuid        not null,
    primary key (one, other, event)
);
create index patient_link_other on patient_link (other);

-- Taking a merge back needs two people (HL7-37).
create table unmerge_request (
    id           uuid        primary key,
    from_patient uuid        not null references patient (id),
    to_patient   uuid        not null references patient (id),
    asked_by     text        not null,
    asked_at     timestamptz not null default now(),
    approved_by  text,
    approved_at  timestamptz,
    constraint two_people check (approved_by is distinct from asked_by),
    constraint approved_whole check ((approved_by is null) = (approved_at is null))
);

-- Accounts and visits move with their orders (ADT^A44, ADT^A45).
alter table imaging_order add column account text not null default '';
alter table imaging_order add column visit text not null default '';
create index imaging_order_account on imaging_order (account) where account <> '';
create index imaging_order_visit on imaging_order (visit) where visit <> '';
create index imaging_order_procedure on imaging_order (requested_procedure) where requested_procedure <> '';

-- By what else the order of a study can be found (HL7-40, rules 3 and 4).
alter table study add column placer text not null default '';
alter table study add column filler text not null default '';
alter table study add column requested_procedure text not null default '';

-- What was sent before a patient turned out to be another: how often it was sent anew.
alter table delivery add column revision int not null default 0;
alter table delivery add column is_stale boolean not null default false;
create index delivery_stale on delivery (position) where is_stale;

-- An application acknowledgement, where the sender asked for two answers (HL7-10).
alter table message add column application_acknowledgement bytea;

do $$
begin
    if exists (select from pg_roles where rolname = 'isocenter_app') then
        grant select, insert on patient_link to isocenter_app;
        grant select, insert, update on unmerge_request to isocenter_app;
    end if;
end
$$;
