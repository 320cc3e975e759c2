-- What opens a private repository.

create type credential_kind as enum (
    'token',    -- shown as a password over HTTPS
    'ssh_key'   -- a private key
);

create table repository_credentials (
    project_id uuid primary key references projects on delete cascade,
    organization_id uuid not null references organizations on delete cascade,
    kind credential_kind not null,
    -- The address it was given for, and the only one it is shown to: whoever changes a project's repository does not learn it.
    repository text not null,
    -- Who shows the token.
    username text check ((username is not null) = (kind = 'token')),
    -- The public keys of the host, as ssh keeps them.
    known_hosts text check ((known_hosts is not null) = (kind = 'ssh_key')),
    -- The token or the key, sealed as secrets are.
    key_id text not null,
    sealed bytea not null,
    set_by text not null,
    set_at timestamptz not null default now()
);
