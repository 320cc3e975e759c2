-- Attempts that an executor has before their step's turn: their pods are up and wait at the gate, which is their `begin`.
-- The row goes when the step's turn comes (its next attempt is this one), when others want the room, and when the step will not run.
create table attempts_ahead (
    attempt_id uuid primary key,
    step_id uuid not null unique references pipeline_steps (id) on delete cascade,
    run_id uuid not null references pipeline_runs (id) on delete cascade,
    -- What it reserves where it waits, to be told to operators.
    cpu_millis bigint not null,
    memory_bytes bigint not null,
    created_at timestamptz not null default now()
);
create index attempts_ahead_by_run on attempts_ahead (run_id);

-- An executor may have had the attempt before it was started: what is swept has to spare it.
alter table step_attempts add column ahead boolean not null default false;
