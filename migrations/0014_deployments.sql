-- Which image should run where: one for each environment of a project, and what it took the place of.

alter table deployments
    add column digest text,                              -- the pushed manifest's, `sha256:…`; null when its registry did not tell
    add column superseded_at timestamptz,
    drop constraint deployments_desired_status_check,
    add constraint deployments_desired_status_check check (desired_status in (
        'active',                                        -- this image should run
        'superseded'                                     -- another took its place, or was there already from a newer run
    ));

-- Of the rows written before, the newest run's counts.
update deployments d set desired_status = 'superseded', superseded_at = now()
from pipeline_runs r
where r.id = d.run_id and exists (
    select from deployments o join pipeline_runs n on n.id = o.run_id
    where o.project_id = d.project_id and o.environment = d.environment
      and (n.created_at, o.id) > (r.created_at, d.id));

alter table deployments
    add constraint superseded_when_over check ((superseded_at is not null) = (desired_status = 'superseded'));

create unique index deployments_active on deployments (project_id, environment) where desired_status = 'active';
