-- When each piece of a live log arrived. A finished one's times are the runner's own, in `step_attempts.report`.
alter table step_log_chunks add column written_at timestamptz not null default now();
