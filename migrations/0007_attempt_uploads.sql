-- What the runner of an attempt stores by itself, straight to the object store: the log, outputs, artifacts.
create table attempt_uploads (
    attempt_id uuid not null references step_attempts on delete cascade,
    name text not null,                          -- 'log', 'outputs', 'artifacts/NAME'
    size bigint not null check (size >= 0),      -- promised at first; the sum of an attempt's is bounded
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    upload text,                                 -- the store's id; null until it has given one
    completed_at timestamptz,                    -- the object is whole; from then on nothing changes it
    created_at timestamptz not null default now(),
    primary key (attempt_id, name)
);

-- What may have to be given up.
create index attempt_uploads_open on attempt_uploads (created_at) where completed_at is null;
