-- What is unusual about a message that is stored and not refused for it.
alter table message
    -- Names of `domain::MessageFlag`.
    add column flags text[] not null default '{}';
