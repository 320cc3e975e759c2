-- The durable queue. jobs is hot and narrow: a job that ended leaves it in the statement that ends it.

create type worker_state as enum (
    'alive',     -- claims jobs
    'draining',  -- finishes or hands over what it holds, claims nothing
    'stopped',   -- said goodbye
    'dead'       -- declared so by another worker; its jobs moved on
);

create table workers (
    id uuid primary key,                                   -- fresh for every process, and again after it was declared dead
    number integer generated always as identity unique,    -- key of its advisory lock
    host text not null,
    pid integer not null,
    version text not null,
    queues text[] not null,
    slots integer[] not null,                              -- concurrency of each of those queues
    state worker_state not null default 'alive',
    -- Raised every second. Rescuers compare it with what they saw before, by their own clock; beat_at is for people.
    beat bigint not null default 0,
    beat_at timestamptz not null default now(),
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint ended_when_over check ((ended_at is not null) = (state in ('stopped', 'dead')))
) with (fillfactor = 50);                                  -- room for HOT updates of the beat

create index workers_at_work on workers (id) where state in ('alive', 'draining');

-- Only queues somebody paused have a row.
create table queues (
    name text primary key,
    paused_at timestamptz,
    paused_by text,
    paused_reason text,
    constraint paused_by_somebody check ((paused_at is null) = (paused_by is null))
);

create type job_state as enum (
    'scheduled',  -- due at run_at; a worker's poll turns it ready
    'ready',      -- claimable now
    'running'     -- leased to a worker
);

create table jobs (
    id uuid primary key,
    kind text not null,
    queue text not null,
    state job_state not null,
    priority smallint not null default 0,                  -- higher goes first
    run_at timestamptz not null default now(),             -- back-off lives here
    args jsonb not null,                                   -- ids only, never secrets; "v" is their version
    attempt integer not null default 0,                    -- claims that counted
    max_attempts integer not null check (max_attempts > 0),
    -- Workers that died in a row while they held this job, without progress in between.
    deaths smallint not null default 0,
    death_mark bigint not null default -1,                 -- progress seen at the last of those deaths
    lease bigint,                                          -- random, new for every claim
    worker_id uuid,
    claimed_at timestamptz,
    cancel_requested boolean not null default false,
    unique_key text,                                       -- at most one live job with this key
    organization_id uuid,
    project_id uuid,
    run_id uuid,
    step_id uuid,
    enqueued_at timestamptz not null default now(),
    constraint leased_while_running check (
        (state = 'running') = (lease is not null)
        and (lease is null) = (worker_id is null)
        and (lease is null) = (claimed_at is null)
    )
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- What a claim reads: only rows it may take, in the order it takes them.
create index jobs_ready on jobs (queue, priority desc, run_at, id) where state = 'ready';
create index jobs_scheduled on jobs (run_at) where state = 'scheduled';
create index jobs_held on jobs (worker_id) where state = 'running';
create unique index jobs_unique_key on jobs (unique_key) where unique_key is not null;

create type job_end as enum (
    'succeeded',
    'dead',       -- out of attempts, or every worker that took it died
    'discarded',  -- by an operator
    'cancelled'   -- with its run
);

create table job_history (
    id uuid primary key,
    kind text not null,
    queue text not null,
    ended_as job_end not null,
    priority smallint not null,
    args jsonb not null,
    attempt integer not null,
    max_attempts integer not null,
    deaths smallint not null,
    worker_id uuid,
    unique_key text,
    organization_id uuid,
    project_id uuid,
    run_id uuid,
    step_id uuid,
    enqueued_at timestamptz not null,
    claimed_at timestamptz,
    ended_at timestamptz not null default now(),
    error text
);

create index job_history_by_time on job_history (ended_at, id);
create index job_history_unsuccessful on job_history (ended_at, id) where ended_as <> 'succeeded';

create type job_error_kind as enum (
    'failed',       -- the handler returned an error
    'worker_died'   -- the worker that held it was declared dead
);

-- One row for each attempt that did not succeed.
create table job_errors (
    job_id uuid not null,
    happened_at timestamptz not null default now(),
    attempt integer not null,
    kind job_error_kind not null,
    worker_id uuid,
    claimed_at timestamptz,
    error text not null
);

create index job_errors_by_job on job_errors (job_id, happened_at);
create index job_errors_by_time on job_errors (happened_at);
