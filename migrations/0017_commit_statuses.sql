-- Telling forges how the runs of their commits stand.

create table forge_statuses (
    project_id uuid primary key references projects on delete cascade,
    organization_id uuid not null references organizations on delete cascade,
    forge forge_kind not null,
    -- Of its API, without a slash at the end.
    api_url text not null,
    -- The repository's name there, such as `team/web`.
    repository text not null,
    -- The token that statuses are sent with, sealed as secrets are.
    key_id text not null,
    sealed bytea not null,
    set_by text not null,
    set_at timestamptz not null default now()
);

create table commit_statuses (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    project_id uuid not null references projects on delete cascade,
    commit_sha text not null,
    -- What tells the statuses of one commit apart at the forge.
    context text not null,
    -- The newest run of these: an older one that ends later changes nothing. It may be gone.
    run_id uuid not null,
    run_number integer not null,
    -- How it stood.
    status run_status not null,
    reason text,
    changed_at timestamptz not null default now(),
    -- Raised by each change. A job sends one version, unless there is a newer one.
    version integer not null default 1,
    -- The last one that the forge took.
    sent_version integer not null default 0,
    -- Somebody may be sending until then, and nobody else begins: two requests at once could arrive in any order.
    sending_until timestamptz,
    -- Why the last one was not taken.
    error text,
    constraint one_status_per_context unique (project_id, commit_sha, context)
);

create index commit_statuses_by_project on commit_statuses (project_id, changed_at desc);
create index commit_statuses_by_time on commit_statuses (changed_at);
create index commit_statuses_by_run on commit_statuses (run_id);
