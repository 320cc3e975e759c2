-- Secrets of one environment of a project, for the steps whose `deploy` names it.

alter table secrets
    -- Null for one that any step of the project gets; an environment's own of the same name wins. Its value is bound to it.
    add column environment text check (environment ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    add constraint secrets_environment_is_of_a_project check (environment is null or project_id is not null),
    drop constraint secrets_name_is_unique,
    add constraint secrets_name_is_unique unique nulls not distinct (organization_id, project_id, environment, name);
