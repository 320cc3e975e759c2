-- Runs that the clock starts.

create table schedules (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    project_id uuid not null references projects on delete cascade,
    pipeline_id uuid not null references pipelines on delete cascade,
    -- Five fields, and the time zone that they are about.
    cron text not null,
    timezone text not null,
    next_at timestamptz not null,
    -- When it was due last, whenever that run was started.
    last_at timestamptz,
    constraint schedules_are_unique unique (pipeline_id, cron, timezone)
);

create index schedules_by_time on schedules (next_at);
create index schedules_by_project on schedules (project_id, id);

-- The number of the run whose commit the schedules are of: an older commit that is planned later changes nothing.
alter table pipelines add column schedules_of integer not null default 0;
