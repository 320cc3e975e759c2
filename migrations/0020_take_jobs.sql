-- The claim, the one way from `ready` to `running`: of each queue up to `free` of the most urgent ready jobs, for a worker
-- that nobody declared dead, under one lease.
--
-- A function, because each statement within a volatile one sees what was committed before it began. A claim that is
-- part of a longer statement would look with that statement's older snapshot, and lock rows that others have claimed
-- since: `skip locked` passes over rows that are locked, not over those that were, and the lock on such a row stays until
-- the commit, although the row is then dropped for not being `ready` any more. Its owner's end waits for it meanwhile.
create function take_jobs(
    of_queues text[],
    free int[],
    of_kinds text[],        -- an unknown kind is left for newer workers
    new_lease bigint,
    by_worker uuid
) returns setof jobs language plpgsql volatile
-- A plan for tables of any size: in the order of the index, up to the limit.
set enable_seqscan = off set enable_bitmapscan = off
as $$
begin
    return query
    -- The queues without those that somebody paused.
    with wanted as (
        select w.queue, w.free from unnest(of_queues, take_jobs.free) as w (queue, free)
        where not exists (select from queues q where q.name = w.queue and q.paused_at is not null)
    ),
    -- Of each queue as many rows as there are slots, so that every row locked here is also taken; rows that another
    -- worker is taking at this moment are passed over, not waited for.
    due as (
        select d.id from wanted w cross join lateral (
            select j.id from jobs j
            where j.queue = w.queue and j.state = 'ready'       -- the partial index jobs_ready, in its order
              and j.kind = any (of_kinds)
            order by j.priority desc, j.run_at, j.id
            limit w.free
            for update skip locked
        ) d
    )
    -- State and lease in one update. A worker that was declared dead takes nothing more. An array, which is made once
    -- and has the rows looked up by the primary key, whatever the planner thinks of their number.
    update jobs j
    set state = 'running', lease = new_lease, worker_id = by_worker, claimed_at = now(), attempt = j.attempt + 1
    where j.id = any (array(select due.id from due))
      and exists (select from workers w where w.id = by_worker and w.state = 'alive')
    returning j.*;
end
$$;
