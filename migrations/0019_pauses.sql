-- What people stop for a while: schedules, and workers.

alter table schedules
    -- Who made it by hand; null for what the pipeline's file says, which comes and goes with the file.
    add column added_by text,
    -- A paused one starts nothing. It is due again from its resumption on.
    add column paused_at timestamptz,
    add column paused_by text,
    add constraint paused_by_somebody check ((paused_at is null) = (paused_by is null));

alter table workers
    -- An operator wants it to claim nothing until they say otherwise. A worker that stops says so by its state alone.
    add column drained_at timestamptz,
    add column drained_by text,
    add constraint drained_by_somebody check ((drained_at is null) = (drained_by is null));
