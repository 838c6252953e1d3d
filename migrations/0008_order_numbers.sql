-- What assigned the numbers of orders and patients, and which kind of department an order is for.
--
-- A number is one order's, and an identifier one patient's, only together with what assigned it: the
-- authority that it names, or the system that sent it. Departments number their orders alike.

alter table imaging_order
    -- The authority of the number; empty if it names none.
    add column placer_authority text not null default '',
    add column filler_authority text not null default '',
    -- The system that sent a number that names no authority.
    add column placer_sender    text not null default '',
    add column filler_sender    text not null default '',
    -- What assigned the accession number; empty if nothing is named.
    add column accession_issuer text not null default '',
    -- What images carry of an accession number that is too long for them, by the rule of the site.
    add column accession_in_images text not null default '',
    -- A name of domain::OrderKind.
    add column kind             text not null default 'unknown',
    add constraint order_kind check (kind in ('unknown', 'imaging', 'laboratory'));

create index imaging_order_accession_in_images on imaging_order (accession_in_images)
    where accession_in_images <> '';

-- Orders that are stored already have numbers of the system that spoke of them last.
update imaging_order o set
    placer_sender = case when o.placer = '' then ''
        else m.sending_application || chr(31) || m.sending_facility end,
    filler_sender = case when o.filler = '' then ''
        else m.sending_application || chr(31) || m.sending_facility end,
    body = jsonb_set(o.body, '{key}', o.body -> 'key' || jsonb_build_object(
        'placer', jsonb_build_object('number', o.placer, 'assigner', jsonb_build_object('sender',
            jsonb_build_object('application', m.sending_application,
                'facility', m.sending_facility))),
        'filler', jsonb_build_object('number', o.filler, 'assigner', jsonb_build_object('sender',
            jsonb_build_object('application', m.sending_application,
                'facility', m.sending_facility)))))
from message m where m.id = o.message;

-- The authorities that images name with the numbers of their order.
alter table study
    add column placer_authority text not null default '',
    add column filler_authority text not null default '';

-- The accession numbers of a study. It may answer several orders (HL7-42).
create table study_accession_number (
    study  text not null references study (uid),
    number text not null,
    -- What assigned it; empty if nothing is named.
    issuer text not null default '',
    primary key (study, number, issuer)
);
create index study_accession_number_number on study_accession_number (number);

insert into study_accession_number (study, number) select uid, accession from study where accession <> '';

-- The orders that a report was composed with: one that comes later asks for a correction. Not known
-- of what was composed before.
alter table delivery add column composed_orders uuid[];

-- The authority or sender that named the patient first; empty for those that were stored before.
alter table patient add column stated_by text not null default '';

-- Authorities and senders that state other demographics under an identifier than the one that used it
-- first: it may be that of two patients.
create table identity_collision (
    patient   uuid        not null references patient (id),
    stated_by text        not null,
    seen_at   timestamptz not null default now(),
    primary key (patient, stated_by)
);
