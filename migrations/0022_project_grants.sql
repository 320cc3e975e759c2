-- What a member is on one project, in place of what their role in the organization gives them there.

create table project_grants (
    project_id uuid not null references projects on delete cascade,
    user_id uuid not null,
    organization_id uuid not null,
    -- Owners are the organization's alone.
    role org_role not null check (role <> 'owner'),
    -- Who gave it, for people.
    granted_by text not null,
    created_at timestamptz not null default now(),
    primary key (project_id, user_id),
    -- Whoever is no member any more has no grant either.
    foreign key (organization_id, user_id) references org_memberships on delete cascade
);

create index project_grants_by_member on project_grants (organization_id, user_id);
