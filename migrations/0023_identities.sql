-- People who sign in by a provider of OpenID Connect.

create table user_identities (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    -- Who vouches, and what it calls the person: never their address, which may become another's.
    issuer text not null,
    subject text not null,
    -- The address that the provider vouched for as the two were linked.
    email text not null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    constraint user_identities_subject_is_unique unique (issuer, subject),
    -- Two people of a provider are never one account.
    constraint user_identities_user_is_unique unique (user_id, issuer)
);

-- Sign-ins that a browser has begun and the provider has not ended yet.
create table provider_sign_ins (
    -- SHA-256 of the token in the browser's cookie: 256 random bits, of which all that the provider is shown is derived.
    hash bytea primary key check (length(hash) = 32),
    -- The page of ours that it leads to.
    next text not null,
    expires_at timestamptz not null
);
