-- What forges send.

create type forge_kind as enum ('github', 'gitlab', 'gitea');  -- gitea is Forgejo too

create table forge_hooks (
    project_id uuid primary key references projects on delete cascade,
    organization_id uuid not null references organizations on delete cascade,
    forge forge_kind not null,
    -- What messages are signed with, sealed as secrets are.
    key_id text not null,
    sealed bytea not null,
    created_at timestamptz not null default now()
);

alter table pipeline_runs
    -- Of a merge request: its number in its project, and what happened to it.
    add column mr_number integer,
    add column mr_action text check (mr_action in ('opened', 'synchronized', 'reopened', 'closed', 'merged')),
    -- The commit comes from another repository: nobody here has looked at it, so it gets no secret.
    add column fork boolean not null default false;

create index pipeline_runs_by_merge_request on pipeline_runs (project_id, mr_number)
    where mr_number is not null and status in ('pending', 'running');
