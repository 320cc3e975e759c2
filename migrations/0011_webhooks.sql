-- Telling others how runs end.

create table webhooks (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    -- Null for the runs of all projects.
    project_id uuid references projects on delete cascade,
    url text not null,
    -- Which ends it is told of: `build.success`, `build.failure`, `build.cancelled`, `build.error`.
    events text[] not null check (cardinality(events) > 0),
    -- What deliveries are signed with, sealed as secrets are.
    key_id text not null,
    sealed bytea not null,
    active boolean not null default true,
    created_at timestamptz not null default now()
);

create index webhooks_by_organization on webhooks (organization_id, id);
create index webhooks_by_project on webhooks (project_id) where project_id is not null;

create type delivery_state as enum (
    'pending',    -- not accepted yet; a job works on it
    'delivered',  -- the other side answered 2xx
    'failed'      -- given up
);

create table webhook_deliveries (
    -- Also the message's id, by which receivers know one that comes again.
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    webhook_id uuid not null references webhooks on delete cascade,
    -- What it tells of; the run may be gone.
    run_id uuid not null,
    event text not null,
    -- How the run stood as it ended.
    data jsonb not null,
    -- What is sent, made before it was sent first and the same each time.
    body text,
    state delivery_state not null default 'pending',
    created_at timestamptz not null default now()
);

create index webhook_deliveries_by_webhook on webhook_deliveries (webhook_id, id);
create index webhook_deliveries_by_time on webhook_deliveries (created_at);

create table webhook_attempts (
    delivery_id uuid not null references webhook_deliveries on delete cascade,
    number integer not null,
    at timestamptz not null default now(),
    duration_ms integer not null,
    -- What was answered: status and the first bytes; or
    status integer,
    answer text,
    -- why nothing was.
    error text,
    primary key (delivery_id, number),
    check ((status is null) <> (error is null))
);
