//! Each list route and each page, one request after the other.

use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    client::{Caller, json, timed},
    server::Server,
};
use crate::bench::{measure::percentiles, print};

/// What the aim is, for the server.
const AIM_MS: f64 = 50.0;

/// Lists of the API; a field in braces is another one each time.
const ROUTES: &[&str] = &[
    "/api/v1/projects",
    "/api/v1/projects?limit=200",
    "/api/v1/projects/{project}/pipelines",
    "/api/v1/projects/{project}/runs",
    "/api/v1/projects/project-00001/runs",
    "/api/v1/projects/project-00001/runs?status=failure,error",
    "/api/v1/projects/project-00001/runs?status=running",
    "/api/v1/projects/project-00001/runs?ref=feature/7",
    "/api/v1/projects/project-00001/runs?ref=no-such-branch",
    "/api/v1/projects/project-00001/runs?trigger=manual",
    "/api/v1/projects/project-00001/runs?number=4711",
    "/api/v1/runs",
    "/api/v1/runs?limit=200",
    "/api/v1/runs?cursor={cursor}",
    "/api/v1/runs?status=failure",
    "/api/v1/runs?status=pending,running",
    "/api/v1/runs?ref=feature/7",
    "/api/v1/runs?ref=no-such-branch",
    "/api/v1/runs?trigger=schedule",
    "/api/v1/runs?trigger=manual",
    "/api/v1/runs?number=4711",
    "/api/v1/runs?pipeline={pipeline}",
    "/api/v1/runs/{run}",
    "/api/v1/runs/{run}/artifacts",
    "/api/v1/runs/{new-run}/artifacts/test-results",
    "/api/v1/pipelines/{pipeline}/runs",
    "/api/v1/pipelines/{pipeline}/runs?status=running",
    "/api/projects/{project}/pipelines",
    "/api/projects/{project}/pipelines/{run-of-project}",
    "/api/v1/projects/{project}/schedules",
    "/api/v1/projects/{project}/secrets",
    "/api/v1/secrets",
    "/api/v1/webhooks",
    "/api/v1/webhooks/{webhook}/deliveries",
    "/api/v1/members",
    "/api/v1/invitations",
    "/api/v1/api-keys",
    "/api/v1/audit",
    "/api/v1/audit?action=secret.",
    "/api/v1/audit?action=no.such",
    "/api/v1/audit?project={project-id}",
    "/api/v1/audit?user={pipeline}",
    "/api/v1/audit?since=2020-01-01T00:00:00Z&until=2020-02-01T00:00:00Z",
    "/api/v1/fleet/jobs",
    "/api/v1/fleet/jobs?state=dead",
    "/api/v1/fleet/jobs?kind=DeliverWebhook",
    "/api/v1/fleet/jobs?project={project-id}",
    "/api/v1/fleet/jobs?text=no+such+thing",
    "/api/v1/fleet/queues",
    "/api/v1/fleet/workers",
];

/// Pages.
const PAGES: &[&str] = &[
    "/",
    "/?after={project}",
    "/?q=123",
    "/projects/{project}",
    "/projects/{project}/pipelines/default",
    "/projects/project-00001/pipelines/default",
    "/projects/project-00001/pipelines/default?status=failure",
    "/projects/project-00001/pipelines/default?status=running",
    "/projects/project-00001/pipelines/default?branch=no-such-branch",
    "/projects/project-00001/pipelines/default?trigger=manual",
    "/runs/{run}",
    "/runs/{run}/steps/step-0",
    "/projects/{project}/secrets",
    "/projects/{project}/schedules",
    "/projects/{project}/forge",
    "/projects/{project}/repository",
    "/fleet",
    "/fleet/jobs",
    "/fleet/jobs?state=dead",
    "/fleet/jobs?text=no+such+thing",
    "/settings",
    "/settings/members",
    "/settings/keys",
    "/settings/secrets",
    "/settings/webhooks",
    "/settings/audit",
    "/settings/audit?project=project-00001",
];

/// What the fields stand for, each time another one.
struct Names {
    projects: Vec<(String, Uuid, Uuid, Uuid)>,
    runs: Vec<Uuid>,
    /// Those with artifacts and more than one step.
    new_runs: Vec<Uuid>,
    webhook: String,
    cursors: Vec<String>,
}

impl Names {
    async fn of(pool: &PgPool, caller: &Caller, wanted: usize) -> anyhow::Result<Self> {
        let wanted = i64::try_from(wanted)?;
        let organization = caller.organization.uuid();
        let projects = sqlx::query_as(
            "select p.name, p.id, l.id,
                    coalesce((select r.id from pipeline_runs r where r.project_id = p.id order by id desc limit 1), p.id)
             from projects p join pipelines l on l.project_id = p.id where p.organization_id = $1 order by random() limit $2",
        )
        .bind(organization)
        .bind(wanted)
        .fetch_all(pool)
        .await?;
        let new_runs: Vec<Uuid> = sqlx::query_scalar(
            "select id from pipeline_runs r where organization_id = $1
               and exists (select from artifacts a where a.run_id = r.id) order by id desc limit $2",
        )
        .bind(organization)
        .bind(wanted)
        .fetch_all(pool)
        .await?;
        let old_runs: Vec<Uuid> = sqlx::query_scalar(
            "select id from pipeline_runs tablesample system (1) where organization_id = $1 and status <> 'pending' limit $2",
        )
        .bind(organization)
        .bind(wanted)
        .fetch_all(pool)
        .await?;
        let runs = new_runs.iter().zip(old_runs).flat_map(|(new, old)| [*new, old]).collect();
        let webhooks = json(caller.by_key(Method::GET, "/api/v1/webhooks")).await?;
        let webhook = webhooks["items"][0]["id"].as_str().context("no webhook: fill the database first")?.to_owned();
        let mut cursors = Vec::new();
        let mut path = "/api/v1/runs?limit=200".to_owned();
        for _ in 0..10 {
            let page = json(caller.by_key(Method::GET, &path)).await?;
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/api/v1/runs?limit=200&cursor={cursor}");
            cursors.push(cursor.to_owned());
        }
        Ok(Self { projects, runs, new_runs, webhook, cursors })
    }

    fn path(&self, template: &str, turn: usize) -> anyhow::Result<String> {
        let (project, id, pipeline, run_of_project) =
            &self.projects.get(turn % self.projects.len().max(1)).context("no project: fill the database first")?;
        let run = self.runs.get(turn % self.runs.len().max(1)).context("no run: fill the database first")?;
        let new_run =
            self.new_runs.get(turn % self.new_runs.len().max(1)).context("no run: fill the database first")?;
        let cursor = self.cursors.get(turn % self.cursors.len().max(1)).map_or("", String::as_str);
        Ok(template
            .replace("{project}", project)
            .replace("{project-id}", &id.to_string())
            .replace("{pipeline}", &pipeline.to_string())
            .replace("{run-of-project}", &run_of_project.to_string())
            .replace("{run}", &run.to_string())
            .replace("{new-run}", &new_run.to_string())
            .replace("{webhook}", &self.webhook)
            .replace("{cursor}", cursor))
    }
}

pub(super) async fn lists(pool: &PgPool, database_url: &str, requests: usize) -> anyhow::Result<()> {
    let server = Server::start(database_url).await?;
    let caller = Caller::new(pool, &server.url).await?;
    let names = Names::of(pool, &caller, requests).await?;
    let mut slow = Vec::new();
    let mut worst = 0.0_f64;
    let all = ROUTES.iter().map(|path| ("list", path)).chain(PAGES.iter().map(|path| ("page", path)));
    for (what, template) in all {
        let mut times = Vec::with_capacity(requests);
        // The first ones pay for connections, plans and cold pages of the database, once.
        for turn in 0..requests + 20 {
            let path = names.path(template, turn)?;
            let request = if what == "page" { caller.page(&path) } else { caller.by_key(Method::GET, &path) };
            let took = timed(request).await?;
            if turn >= 20 {
                times.push(took);
            }
        }
        let mut line = percentiles(times);
        line[what] = json!(template);
        let p99 = line["p99_ms"].as_f64().unwrap_or(0.0);
        worst = worst.max(p99);
        if p99 > AIM_MS {
            slow.push(*template);
        }
        print(&line)?;
    }
    let (memory_mb, _) = server.memory_mb()?;
    print(&json!({
        "lists": ROUTES.len(), "pages": PAGES.len(), "requests_each": requests, "worst_p99_ms": worst, "over_50_ms": slow,
        "api_memory_mb": memory_mb,
    }))
}
