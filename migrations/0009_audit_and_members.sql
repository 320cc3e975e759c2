-- Who changed what, and how people join.

create table audit_log (
    -- Version 7: sorts by time.
    id uuid primary key,
    -- Null for what is about the installation; its operators see that.
    organization_id uuid references organizations on delete cascade,
    -- Such as `project.updated`.
    action text not null,
    -- Who it was, as they were called then; without references, since an entry outlives all that it names.
    actor text not null,
    user_id uuid,
    key_id uuid,
    -- Where the request came from; null where it was no request.
    address text,
    -- What was changed, as it was called then.
    subject text not null,
    subject_id uuid,
    project_id uuid,
    -- What changed of it, where that is short and no secret.
    before jsonb,
    after jsonb,
    at timestamptz not null default now()
);

create index audit_log_by_organization on audit_log (organization_id, id);

create table invitations (
    id uuid primary key,
    organization_id uuid not null references organizations on delete cascade,
    -- Whoever has this address may use it, and nobody else.
    email text not null check (email = lower(email) and position('@' in email) > 1),
    role org_role not null,
    -- SHA-256 of the link's token: 256 random bits.
    hash bytea not null unique check (length(hash) = 32),
    -- Who invites, for people.
    invited_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- The newest one takes the place of an older one.
    constraint invitations_email_is_unique unique (organization_id, email)
);

-- A person's own key: it may no more than they, and serves only while they are a member. Others are the organization's.
alter table api_keys add column user_id uuid references users on delete cascade;
create index api_keys_by_user on api_keys (user_id, id) where user_id is not null;
