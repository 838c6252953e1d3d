-- States are called by the terms of the field: a delivery whose storage commitment is pending is
-- `awaiting_commitment` (`DeliveryState`), and a commitment request whose result could not be
-- reported in time is `expired` (`CommitmentState`).

alter table delivery drop constraint delivery_state;
update delivery set state = 'awaiting_commitment' where state = 'promised';
alter table delivery add constraint delivery_state check (state in
    ('queued', 'sending', 'awaiting_commitment', 'delivered', 'failed', 'blocked'));

alter table commitment drop constraint commitment_state;
update commitment set state = 'expired' where state = 'given_up';
alter table commitment add constraint commitment_state check (state in
    ('asked', 'checked', 'reported', 'expired'));
