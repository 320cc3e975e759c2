-- Values for `${secrets.NAME}`, which nobody can read back.

create table secrets (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    -- Null for one that all projects of the organization get; a project's own of the same name wins.
    project_id uuid references projects on delete cascade,
    name text not null check (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,99}$'),
    -- Which of the installation's keys it is sealed under.
    key_id text not null,
    -- AES-256-GCM: nonce, ciphertext and tag. Bound to organization, project and name: moved to another row it cannot be opened.
    sealed bytea not null check (length(sealed) > 28),
    -- Who set it, for people.
    set_by text not null,
    set_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    constraint secrets_name_is_unique unique nulls not distinct (organization_id, project_id, name)
);

create index secrets_by_project on secrets (project_id) where project_id is not null;
create index secrets_by_key on secrets (key_id);
