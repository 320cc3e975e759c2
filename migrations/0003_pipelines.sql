-- Pipelines, their runs, the steps of a run, the attempts of a step, and what a run leaves behind.

create table pipelines (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    project_id uuid not null references projects on delete cascade,
    name text not null check (length(name) between 1 and 100),
    -- Either a file in the repository or a config stored here.
    file text,
    config text,
    next_number integer not null default 1,
    created_at timestamptz not null default now(),
    constraint file_or_config check ((file is null) <> (config is null)),
    constraint pipelines_name_is_unique unique (project_id, name)
);

create type run_status as enum (
    'pending',    -- its RunPipeline job has not planned it yet
    'running',    -- has steps that have not ended, or artifacts to publish
    'success',
    'failure',    -- a step failed: the user's doing
    'cancelled',
    'error',      -- ours or the cluster's doing, or a pipeline file that does not parse
    'skipped'     -- no filter matched
);

create type run_trigger as enum ('push', 'mr', 'schedule', 'api', 'manual');

create table pipeline_runs (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    project_id uuid not null references projects on delete cascade,
    pipeline_id uuid not null references pipelines on delete cascade,
    number integer not null,
    status run_status not null default 'pending',
    trigger run_trigger not null,
    git_ref text not null,
    branch text,                                 -- null for a tag
    commit_sha text check (commit_sha ~ '^[0-9a-f]{40}([0-9a-f]{24})?$'),
    commit_message text,
    commit_author text,
    delivery text,                               -- the same delivery twice makes one run
    reason text,                                 -- one sentence: what happened and what to do
    diagnostics jsonb,                           -- of a pipeline file that does not parse
    notes text[] not null default '{}',          -- what a reader should know, such as a pattern that matched nothing
    concurrency_group text,
    artifacts jsonb not null default '[]',       -- the file's artifact declarations
    checkout_key text,                           -- object: the packed commit
    open_steps integer not null default 0 check (open_steps >= 0),
    generation integer not null default 1,       -- raised by each retry of an ended run
    cancel_requested_at timestamptz,
    created_by text not null,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    constraint runs_number_is_unique unique (pipeline_id, number),
    constraint finished_when_over check (
        (finished_at is not null) = (status in ('success', 'failure', 'cancelled', 'error', 'skipped'))
    )
);

create unique index pipeline_runs_once_per_delivery on pipeline_runs (pipeline_id, delivery) where delivery is not null;
create index pipeline_runs_by_project on pipeline_runs (project_id, id desc);
create index pipeline_runs_by_organization on pipeline_runs (organization_id, id desc);
-- One active run for each concurrency group.
create unique index pipeline_runs_active_group on pipeline_runs (pipeline_id, concurrency_group)
    where concurrency_group is not null and status = 'running';
create index pipeline_runs_waiting_group on pipeline_runs (pipeline_id, concurrency_group, id)
    where concurrency_group is not null and status = 'pending';

create type step_status as enum (
    'pending', 'running', 'success', 'failure', 'cancelled', 'error', 'skipped'
);

create table pipeline_steps (
    id uuid primary key,
    organization_id uuid not null,
    project_id uuid not null,                    -- denormalised: lists by project need no join
    run_id uuid not null references pipeline_runs on delete cascade,
    name text not null,
    step_order integer not null,
    image text not null,
    status step_status not null default 'pending',
    plan jsonb not null,                         -- the planned step; secrets are references in it, never values
    depends_on text[] not null default '{}',
    unmet integer not null default 0 check (unmet >= 0),    -- dependencies that have not ended well yet
    allow_failure boolean not null default false,
    left_out boolean not null default false,     -- its `when` did not match: skipped for good, and holds nobody up
    retries_left integer not null default 0,     -- the user's own
    losses_left integer not null default 3,      -- for lost pods, apart from those
    exit_code integer,
    reason text,
    log_ref text,                                -- object: the last attempt's log
    started_at timestamptz,
    finished_at timestamptz,
    constraint steps_name_is_unique unique (run_id, name),
    constraint steps_order_is_unique unique (run_id, step_order),
    constraint step_finished_when_over check ((finished_at is null) = (status in ('pending', 'running')))
);

create table step_dependencies (
    step_id uuid not null references pipeline_steps on delete cascade,
    depends_on_id uuid not null references pipeline_steps on delete cascade,
    primary key (step_id, depends_on_id)
);

create index step_dependencies_backwards on step_dependencies (depends_on_id);

create type attempt_status as enum (
    'pending', 'running', 'success', 'failure', 'cancelled', 'error',
    'lost'        -- its pod, node or runner went away; the step got another attempt
);

create table step_attempts (
    id uuid primary key,                         -- also the pod's name
    organization_id uuid not null,
    run_id uuid not null,
    step_id uuid not null references pipeline_steps on delete cascade,
    number integer not null,
    job_id uuid not null,                        -- its RunStep job
    status attempt_status not null default 'pending',
    exit_code integer,
    reason text,
    log_len bigint not null default 0,           -- bytes stored in chunks
    log_ref text,                                -- object: the whole log
    report jsonb,                                -- the runner's last word
    created_at timestamptz not null default now(),
    started_at timestamptz,                      -- first start of the executor
    first_command_at timestamptz,
    finished_at timestamptz,
    constraint attempts_number_is_unique unique (step_id, number),
    constraint attempt_finished_when_over check ((finished_at is null) = (status in ('pending', 'running')))
) with (fillfactor = 70);

create index step_attempts_by_run on step_attempts (run_id);
create index step_attempts_by_job on step_attempts (job_id);
-- Attempts that an executor may have.
create index step_attempts_at_work on step_attempts (id) where started_at is not null and finished_at is null;
-- Attempts whose chunks can go: the whole log is an object.
create index step_attempts_stored on step_attempts (finished_at) where log_ref is not null;

create table step_log_chunks (
    attempt_id uuid not null references step_attempts on delete cascade,
    start bigint not null check (start >= 0),    -- byte offset of the first byte
    bytes bytea not null check (length(bytes) > 0),
    primary key (attempt_id, start)
);
-- Log text is read once or twice and deleted soon: compressing it costs more than it saves.
alter table step_log_chunks alter column bytes set storage external;

create table artifacts (
    id uuid primary key,
    organization_id uuid not null,
    project_id uuid not null,
    run_id uuid not null references pipeline_runs on delete cascade,
    name text not null,
    path text not null,                          -- within the artifact
    content_type text not null,
    size bigint not null check (size >= 0),
    sha256 text not null,
    storage_key text not null,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    constraint artifacts_path_is_unique unique (run_id, name, path)
);

create index artifacts_expiring on artifacts (expires_at) where expires_at is not null;

create table deployments (
    id uuid primary key,
    organization_id uuid not null,
    project_id uuid not null references projects on delete cascade,
    run_id uuid not null references pipeline_runs on delete cascade,
    step_id uuid not null references pipeline_steps on delete cascade,
    environment text not null,
    image text not null,
    desired_status text not null default 'active' check (desired_status in ('active')),
    created_at timestamptz not null default now(),
    constraint one_deployment_per_step unique (step_id)
);
