-- Who owns what. Nothing crosses an organization: every table below it carries organization_id,
-- and every query is bound to one.

create table organizations (
    id uuid primary key,
    name text not null unique check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    created_at timestamptz not null default now()
);

create table users (
    id uuid primary key,
    email text not null check (email = lower(email) and position('@' in email) > 1),
    name text not null,
    created_at timestamptz not null default now(),
    constraint users_email_is_unique unique (email)
);

create type org_role as enum (
    'owner',      -- everything, the organization's end included
    'admin',      -- members, settings, secrets
    'developer',  -- projects and runs
    'viewer'      -- reads
);

create table org_memberships (
    organization_id uuid not null references organizations on delete cascade,
    user_id uuid not null references users on delete cascade,
    role org_role not null,
    created_at timestamptz not null default now(),
    primary key (organization_id, user_id)
);

create table projects (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    name text not null check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    -- A path, an https:// or an ssh:// address; validated before git sees it, never with credentials.
    repository text not null,
    default_branch text not null default 'main',
    created_at timestamptz not null default now(),
    constraint projects_name_is_unique unique (organization_id, name)
);

create table api_keys (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    name text not null,
    -- The first characters of the key, to recognise it by; the key itself is never stored.
    prefix text not null,
    -- SHA-256 of the key. Keys are 256 random bits, so a slow hash would add nothing.
    hash bytea not null unique check (length(hash) = 32),
    permissions text[] not null,
    -- A key bound to one project (a hook's) can do nothing elsewhere.
    project_id uuid references projects on delete cascade,
    created_by uuid references users on delete set null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);

create index api_keys_by_organization on api_keys (organization_id, created_at);
