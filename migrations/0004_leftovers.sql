-- Objects that nothing names any more. Whoever takes the name away notes them here in the same transaction; a sweep deletes
-- the objects, then the note. So a crash at any moment leaves the note, and deleting once more does no harm.

create type leftover_kind as enum (
    'everything', -- all objects of a run that was deleted
    'inputs',     -- an ended run's packed commit and what its steps staged for each other
    'artifact'    -- one published file that expired
);

create table leftovers (
    id bigint generated always as identity primary key,
    run_id uuid not null,                        -- no reference: most often the run is gone
    kind leftover_kind not null,
    storage_key text,                            -- the expired file's object
    noted_at timestamptz not null default now(), -- or when deleting was last put off
    constraint key_of_a_file check ((kind = 'artifact') = (storage_key is not null))
);

create index leftovers_by_time on leftovers (noted_at);

-- When an ended run's inputs were noted for deletion: from then on its steps cannot be retried.
alter table pipeline_runs add column inputs_deleted_at timestamptz;

create index pipeline_runs_with_inputs on pipeline_runs (finished_at)
    where finished_at is not null and inputs_deleted_at is null;

-- A run goes with its pipeline, its project or its organization: a trigger misses none of these ways.
create function note_deleted_runs() returns trigger language plpgsql as $$
begin
    insert into leftovers (run_id, kind) select id, 'everything' from gone;
    return null;
end
$$;

create trigger note_deleted_runs after delete on pipeline_runs
    referencing old table as gone for each statement execute function note_deleted_runs();
