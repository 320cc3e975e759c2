-- What whoever started a run gave for its file's own variables, by name. Not secret: readers of the run see it.
alter table pipeline_runs
    add column variables jsonb not null default '{}',
    add constraint variables_are_named check (jsonb_typeof(variables) = 'object');
