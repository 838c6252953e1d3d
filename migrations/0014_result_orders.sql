-- Result orders: the orders that results answer are compared as all order numbers are, by the name of
-- the authority, or by the sender where none is named. Results of two patients that were combined
-- while the two were merged are told apart again.

alter table result_order
    -- What assigned the number: EI.2, or EI.3 where it is empty, under the name that the site gives
    -- it.
    add column authority text not null default '',
    -- MSH-3 and MSH-4 of the sender, if the number names no authority.
    add column sender    text not null default '';
update result_order o set
    authority = coalesce(nullif(split_part(o.assigner, '^', 1), ''), split_part(o.assigner, '^', 2)),
    sender = case when o.assigner <> '' then ''
        else m.sending_application || chr(31) || m.sending_facility end
    from message m where m.id = o.message;
alter table result_order drop constraint result_order_pkey;
delete from result_order a using result_order b
    where a.ctid > b.ctid and a.message = b.message and a.number = b.number
        and a.authority = b.authority and a.sender = b.sender;
drop index result_order_number;
alter table result_order
    drop column assigner,
    add primary key (message, number, authority, sender);
create index result_order_number on result_order (number, authority, sender);

-- A message of another patient whose results were combined with those of this one, before the merge
-- of the two was reversed. What was concluded from both is held while the patients are two.
alter table message add column combined_with uuid references message (id);
