-- What a worker saw in a repository, for whoever sets a pipeline up: the API runs no git.

create table repository_looks (
    pipeline_id uuid primary key references pipelines on delete cascade,
    -- Raised by each question: the answer to an older one is of no use.
    number integer not null default 1,
    asked_at timestamptz not null default now(),
    -- Null until a worker has looked.
    looked_at timestamptz,
    -- What it saw: the head of the default branch,
    commit_sha text,
    -- the files at the root and one folder below, of many only the first,
    files text[] not null default '{}',
    -- and the pipeline's own file, where there is one that is text.
    content text,
    -- Or why it saw nothing.
    problem text,
    constraint looked_or_not check (looked_at is not null or (commit_sha is null and content is null and problem is null))
);
