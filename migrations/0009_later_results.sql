-- Later results: which orders of a laboratory a message answers, and which messages others replace.
--
-- A laboratory corrects or withdraws a result in another message with the same order number. That
-- message is decided on with those before it, and what they state together is in force.

create table result_order (
    message  uuid not null references message (id),
    -- The laboratory's number of the order (EI.1), and who assigned it (EI.2 to EI.4). Without an
    -- assigner, it is a number of the sender of the message.
    number   text not null,
    assigner text not null,
    primary key (message, number, assigner)
);
create index result_order_number on result_order (number, assigner);

-- The document in force, where it is not that of the message alone: with what stays valid of the
-- messages that it replaces.
alter table message add column in_force uuid references payload (id);
-- The message whose document holds in place of this one: no draft of this one is sent any more.
alter table message add column superseded_by uuid references message (id);
create index message_superseded_by on message (superseded_by) where superseded_by is not null;
