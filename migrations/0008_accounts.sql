-- How people get in: passwords, sessions, and links that serve once.

alter table users
    -- argon2id in the PHC form; null until its owner has chosen a password.
    add column password_hash text,
    -- The installation's operator: has `fleet:admin`, whatever the organization.
    add column operator boolean not null default false;

create table sessions (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    -- The organization that the session looks at; null when its user has left it.
    organization_id uuid references organizations on delete set null,
    -- SHA-256 of the cookie's token: 256 random bits.
    hash bytea not null unique check (length(hash) = 32),
    user_agent text not null,
    -- The client's address as it signed in; null where it was not known.
    address text,
    created_at timestamptz not null default now(),
    -- To the minute.
    last_used_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz
);

create index sessions_by_user on sessions (user_id, id);

-- A link with which the owner of an account chooses its password, once.
create table welcome_links (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    -- SHA-256 of the link's token: 256 random bits.
    hash bytea not null unique check (length(hash) = 32),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);

create index welcome_links_by_user on welcome_links (user_id);

-- Wrong passwords of late. The subject is the SHA-256 of an account's or an address's name: strangers choose these.
create table sign_in_failures (
    subject bytea primary key check (length(subject) = 32),
    failures integer not null,
    since timestamptz not null
);
