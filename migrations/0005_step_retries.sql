-- How often the user wants a step tried again, beside what is left of it: a retry of the run gives all of it back.
alter table pipeline_steps add column retries integer not null default 0;
update pipeline_steps set retries = greatest(retries_left, coalesce((plan ->> 'retry')::integer, 0));
