-- Who began the attempt: a runner's nonce, or 'stopped' for one that never will. Set once and for ever, so that commands run
-- once however many pods, containers or stale workers there are. Null for executors that keep that marker themselves.
alter table step_attempts add column begun_by text;
