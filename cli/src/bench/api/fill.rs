//! Rows as years of work leave them, made by SQL: an organization with projects, runs, and what its lists show.

use std::time::Instant;

use buildit_shared::db::organizations;
use serde_json::json;
use sqlx::{Executor, PgPool};
use uuid::Uuid;

use crate::bench::print;

/// The organization that has it all.
pub(super) const ORGANIZATION: &str = "bench";
/// What the API under test seals secrets under.
pub(super) const SECRETS_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Ids that sort by time, as all ids do, and that a row's number tells.
const IDS: &str = "
create function pg_temp.id_at(at timestamptz, salt text) returns uuid immutable language sql as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(salt), 1, 3)
            || '8' || substr(md5(salt), 4, 15))::uuid
$$;
create function pg_temp.run_at(n bigint, runs bigint) returns timestamptz stable language sql as $$
    select now() - (runs - n) * interval '20 seconds'
$$;
create function pg_temp.project(n bigint) returns uuid stable language sql as $$
    select pg_temp.id_at('2020-01-01'::timestamptz + n * interval '1 second', 'project ' || n)
$$;
create function pg_temp.pipeline(n bigint) returns uuid stable language sql as $$
    select pg_temp.id_at('2020-01-01'::timestamptz + n * interval '1 second', 'pipeline ' || n)
$$;
-- Every tenth run is of the first project.
create function pg_temp.project_of(n bigint, projects bigint) returns bigint immutable language sql as $$
    select case when n % 10 = 0 then 1 else 2 + (n - n / 10 - 1) % (projects - 1) end
$$;
create function pg_temp.number_of(n bigint, projects bigint) returns bigint immutable language sql as $$
    select case when n % 10 = 0 then n / 10 else (n - n / 10 - 1) / (projects - 1) + 1 end
$$;
";

/// What is made, with $1 the organization, $2 the number of projects, $3 that of runs.
const ROWS: &[(&str, &str)] = &[
    (
        "projects",
        "insert into projects (id, organization_id, name, repository)
         select pg_temp.project(n), $1, 'project-' || lpad(n::text, 5, '0'), 'https://git.example/project-' || n || '.git'
         from generate_series(1, $2) n where $3 > 0",
    ),
    (
        "pipelines",
        "insert into pipelines (id, organization_id, project_id, name, file, next_number)
         select pg_temp.pipeline(n), $1, pg_temp.project(n), 'default', '.platform.yaml', $3 + 1
         from generate_series(1, $2) n",
    ),
    (
        "runs",
        "insert into pipeline_runs (id, organization_id, project_id, pipeline_id, number, status, trigger, git_ref, branch,
                                    commit_sha, commit_message, commit_author, created_by, created_at, started_at,
                                    finished_at)
         select pg_temp.id_at(at, 'run ' || n), $1, pg_temp.project(p), pg_temp.pipeline(p), pg_temp.number_of(n, $2),
                (case when n % 100 < 88 then 'success' when n % 100 < 97 then 'failure' when n % 100 = 97 then 'cancelled'
                      when n % 100 = 98 then 'error' else 'skipped' end)::run_status,
                (case when n % 16 < 11 then 'push' when n % 16 < 14 then 'mr' when n % 16 = 14 then 'api'
                      else 'schedule' end)::run_trigger,
                'refs/heads/' || branch, branch, md5(n::text) || '00000000', 'Change ' || n,
                'Ada <ada@example.org>', 'ada@example.org', at, at + interval '1 second',
                at + (60 + n % 240) * interval '1 second'
         from (select n, pg_temp.run_at(n, $3) as at, pg_temp.project_of(n, $2) as p,
                      case when n % 5 = 0 then 'feature/' || n % 997 else 'main' end as branch
               from generate_series(1, $3) n) r",
    ),
    (
        "steps",
        "insert into pipeline_steps (id, organization_id, project_id, run_id, name, step_order, image, status, plan, exit_code,
                                     started_at, finished_at)
         select pg_temp.id_at(at, 'step ' || n || '/' || s), $1, pg_temp.project(pg_temp.project_of(n, $2)),
                pg_temp.id_at(at, 'run ' || n), 'step-' || s, s, 'rust:1.95-slim',
                (case when n % 100 < 88 then 'success' else 'failure' end)::step_status,
                '{\"commands\": [{\"source\": \"cargo test\", \"shell\": \"cargo test\"}]}',
                case when n % 100 < 88 then 0 else 1 end, at, at + interval '1 minute'
         from (select n, pg_temp.run_at(n, $3) as at from generate_series(1, $3) n) r,
              generate_series(0, case when n > $3 - 10000 then 9 else 0 end) s where $2 > 0",
    ),
    (
        "attempts",
        "insert into step_attempts (id, organization_id, run_id, step_id, number, job_id, status, exit_code, log_len,
                                    created_at, started_at, first_command_at, finished_at)
         select gen_random_uuid(), $1, run_id, id, 1, gen_random_uuid(), status::text::attempt_status, exit_code, 4096,
                started_at, started_at, started_at, finished_at
         from pipeline_steps where organization_id = $1 and $2 > 0 and $3 > 0",
    ),
    (
        "artifacts",
        "insert into artifacts (id, organization_id, project_id, run_id, name, path, content_type, size, sha256, storage_key)
         select gen_random_uuid(), $1, project_id, id, 'test-results', f || '.xml', 'application/xml', 1024, '', 'none'
         from (select id, project_id from pipeline_runs where organization_id = $1 order by id desc limit 10000) r,
              generate_series(1, 20) f where $2 > 0 and $3 > 0",
    ),
    (
        "audit entries",
        "insert into audit_log (id, organization_id, action, actor, address, subject, project_id, at)
         select pg_temp.id_at(at, 'audit ' || n), $1, case when n % 50 = 0 then 'secret.updated' else 'run.started' end,
                'ada@example.org', '203.0.113.7', '#' || n, pg_temp.project(pg_temp.project_of(n, $2)), at
         from (select n, pg_temp.run_at(n, $3) as at from generate_series(1, $3) n) r",
    ),
    (
        "ended jobs",
        "insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, organization_id,
                                  project_id, run_id, enqueued_at, claimed_at, ended_at, error)
         select pg_temp.id_at(at, 'job ' || n), case when n % 3 = 0 then 'RunPipeline' else 'RunStep' end, 'steps',
                (case when n % 1000 = 0 then 'dead' else 'succeeded' end)::job_end, 0, '{\"v\": 1}', 1, 5, 0, $1,
                pg_temp.project(pg_temp.project_of(n, $2)), pg_temp.id_at(at, 'run ' || n), at, at, at,
                case when n % 1000 = 0 then 'the object store does not answer' end
         from (select n, pg_temp.run_at(n, $3) as at from generate_series(1, $3) n) r",
    ),
    (
        "schedules",
        "insert into schedules (id, organization_id, project_id, pipeline_id, cron, timezone, next_at)
         select gen_random_uuid(), $1, pg_temp.project(n), pg_temp.pipeline(n), '0 3 * * *', 'UTC', now() + interval '9 hours'
         from generate_series(1, $2, 10) n where $3 > 0",
    ),
    (
        "secrets",
        "insert into secrets (id, organization_id, project_id, name, key_id, sealed, set_by)
         select gen_random_uuid(), $1, case when n % 10 = 0 then null else pg_temp.project(n) end, 'TOKEN_' || n, '00000000',
                decode(repeat('00', 40), 'hex'), 'ada@example.org'
         from generate_series(1, least($2, 2000)) n where $3 > 0",
    ),
    (
        "webhooks",
        "insert into webhooks (id, organization_id, url, events, key_id, sealed, active)
         select pg_temp.id_at(now(), 'webhook ' || n), $1, 'https://receiver.example/' || n, '{build.success}', '00000000',
                decode(repeat('00', 40), 'hex'), false
         from generate_series(1, 20) n where $2 > 0 and $3 > 0",
    ),
    (
        "deliveries",
        "insert into webhook_deliveries (id, organization_id, webhook_id, run_id, event, data, state, created_at)
         select pg_temp.id_at(at, 'delivery ' || n), $1, pg_temp.id_at(now(), 'webhook ' || n % 20 + 1),
                pg_temp.id_at(at, 'run ' || n), 'build.success', '{}', 'delivered', at
         from (select n, pg_temp.run_at(n, $3) as at from generate_series(greatest(1, $3 - 200000), $3) n) r where $2 > 0",
    ),
    (
        "people",
        "with made as (
             insert into users (id, email, name)
             select gen_random_uuid(), 'person-' || n || '@example.org', 'Person ' || n from generate_series(1, 500) n
             where $2 > 0 and $3 > 0 returning id)
         insert into org_memberships (organization_id, user_id, role) select $1, id, 'developer' from made",
    ),
    (
        "keys",
        "insert into api_keys (id, organization_id, name, prefix, hash, permissions)
         select pg_temp.id_at(now(), 'key ' || n), $1, 'key ' || n, 'bi_none', sha256(('key ' || n)::bytea), '{project:read}'
         from generate_series(1, 500) n where $2 > 0 and $3 > 0",
    ),
    (
        "invitations",
        "insert into invitations (id, organization_id, email, role, hash, invited_by, expires_at)
         select pg_temp.id_at(now(), 'invitation ' || n), $1, 'guest-' || n || '@example.org', 'viewer',
                sha256(('invitation ' || n)::bytea), 'ada@example.org', now() + interval '7 days'
         from generate_series(1, 200) n where $2 > 0 and $3 > 0",
    ),
];

pub(super) async fn fill(pool: &PgPool, projects: i64, runs: i64) -> anyhow::Result<()> {
    let began = Instant::now();
    // One connection: the functions are its own, and so is the time of `now()`.
    let mut tx = pool.begin().await?;
    let organization: Uuid = organizations::ensure(&mut tx, ORGANIZATION).await?.uuid();
    // Without the checks of references, which cost more than the rows.
    tx.execute("set local session_replication_role = replica").await?;
    tx.execute("set local enable_seqscan = on").await?;
    tx.execute(IDS).await?;
    for (what, statement) in ROWS {
        let started = Instant::now();
        let made = sqlx::query(*statement).bind(organization).bind(projects).bind(runs).execute(&mut *tx).await?;
        print(&json!({ "made": what, "n": made.rows_affected(), "secs": started.elapsed().as_secs_f64() }))?;
    }
    tx.commit().await?;
    sqlx::query("vacuum analyze").execute(pool).await?;
    let bytes: i64 = sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(pool).await?;
    print(
        &json!({ "projects": projects, "runs": runs, "secs": began.elapsed().as_secs_f64(), "database_bytes": bytes }),
    )
}
