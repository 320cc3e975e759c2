//! The fleet's jobs: found by a filter, read with their attempts, and, by its operators, changed one by one, by selection, or
//! all that match.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::{
    db::fleet_jobs::{self, Failure, JobRow},
    ids::JobId,
};
use serde::Deserialize;
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    error::{Result, Visitor},
    fleet::visible,
    layout::{Layout, page},
    status::Status,
    text::When,
};
use crate::{
    App,
    auth::{FleetAdmin, ProjectRead, form::Form},
    error::ApiError,
    extract::{Json, Path, Query},
    routes::fleet_jobs::{self as api, Bulk, BulkAction, JobFilter, JobPath},
};

const PAGE: i64 = 100;

/// What the address says: which jobs, and what became of a change.
#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    state: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    queue: String,
    #[serde(default)]
    text: String,
    before: Option<JobId>,
    done: Option<usize>,
    #[serde(default)]
    refused: usize,
    #[serde(default)]
    why: String,
    #[serde(default)]
    more: bool,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    layout: Layout,
    jobs: Vec<Row>,
    wanted: Wanted,
    is_filtered: bool,
    is_operator: bool,
    next: Option<String>,
}

impl JobsPage {
    fn states(&self) -> impl Iterator<Item = &'static str> {
        fleet_jobs::LIVE.into_iter().chain(fleet_jobs::UNSUCCESSFUL).chain([fleet_jobs::SUCCEEDED])
    }
}

struct Row {
    id: String,
    job: JobRow,
    status: Status,
    at: When,
    what: String,
}

impl Row {
    fn of(job: JobRow) -> Self {
        Self {
            id: job.id.to_string(),
            status: Status::named(match job.state.as_str() {
                "succeeded" => "success",
                "dead" => "failure",
                "running" => "running",
                "ready" | "scheduled" => "pending",
                _ => "cancelled",
            }),
            at: When::of(job.ended_at.or(job.claimed_at).unwrap_or(job.enqueued_at)),
            what: job.error.clone().unwrap_or_else(|| job.args.to_string()),
            job,
        }
    }
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    layout: Layout,
    row: Row,
    is_live: bool,
    may_retry: bool,
    args: String,
    failures: Vec<FailureRow>,
    times: Vec<(&'static str, When)>,
}

struct FailureRow {
    failure: Failure,
    at: When,
}

fn text(text: &str) -> Option<String> {
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

impl Wanted {
    fn filter(&self) -> JobFilter {
        let Self { state, kind, queue, text: part, .. } = self;
        JobFilter { state: text(state), kind: text(kind), queue: text(queue), project: None, text: text(part) }
    }

    /// The same jobs, as the query of an address.
    fn query(&self) -> String {
        let Self { state, kind, queue, text, .. } = self;
        let pairs = [("state", state), ("kind", kind), ("queue", queue), ("text", text)];
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs.into_iter().filter(|(_, value)| !value.is_empty()))
            .finish()
    }
}

/// `GET /fleet/jobs`
pub(super) async fn list(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Query(wanted): Query<Wanted>,
) -> Result<Response> {
    let visible = visible(&caller);
    let filter = fleet_jobs::Filter { scope: visible, ..wanted.filter().parse()? };
    let mut found = fleet_jobs::list(app.pool(), &filter, wanted.before, PAGE + 1).await?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let query = wanted.query();
    let next = found.last().filter(|_| more).map(|last| format!("/fleet/jobs?{query}&before={}", last.id));
    let layout = Layout::of(&caller, "fleet", "Jobs").live("/live/fleet".into());
    let jobs = found.into_iter().map(Row::of).collect();
    let (is_filtered, is_operator) = (!query.is_empty(), visible.is_none());
    Ok(page(&JobsPage { layout, jobs, wanted, is_filtered, is_operator, next }))
}

/// `GET /fleet/jobs/{job}`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<JobPath>,
) -> Result<Response> {
    let id = JobId::from(path.job);
    let visible = visible(&caller);
    let is_visible = |job: &JobRow| {
        visible.is_none_or(|scope| {
            job.organization_id == Some(scope.organization)
                && scope.project.is_none_or(|project| job.project_id == Some(project))
        })
    };
    let job = fleet_jobs::find(app.pool(), id).await?.filter(is_visible);
    let job = job.ok_or_else(|| ApiError::not_found("job", id))?;
    let failures = fleet_jobs::failures(app.pool(), id).await?;
    let is_live = fleet_jobs::LIVE.contains(&job.state.as_str());
    let times = [
        ("Enqueued", Some(job.enqueued_at)),
        ("Due", job.run_at),
        ("Claimed", job.claimed_at),
        ("Ended", job.ended_at),
    ];
    let layout = Layout::of(&caller, "fleet", format!("{} {}", job.kind, job.state)).live("/live/fleet".into());
    Ok(page(&JobPage {
        layout,
        is_live: is_live && visible.is_none(),
        may_retry: visible.is_none()
            && (job.state == "scheduled" || fleet_jobs::UNSUCCESSFUL.contains(&job.state.as_str())),
        args: serde_json::to_string_pretty(&job.args).map_err(ApiError::internal)?,
        failures: failures
            .into_iter()
            .map(|failure| FailureRow { at: When::of(failure.happened_at), failure })
            .collect(),
        times: times.into_iter().filter_map(|(what, at)| Some((what, When::of(at?)))).collect(),
        row: Row::of(job),
    }))
}

/// `POST /fleet/jobs/act?FILTER`: with the jobs whose boxes are ticked, or with all that the filter matches.
pub(super) async fn act(
    state: State<App>,
    caller: Visitor<FleetAdmin>,
    Query(wanted): Query<Wanted>,
    RawQuery(query): RawQuery,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response> {
    let is = |name: &str, value: &str| fields.iter().any(|(field, given)| field == name && given == value);
    let action = if is("action", "retry") {
        BulkAction::Retry
    } else if is("action", "discard") {
        BulkAction::Discard
    } else {
        BulkAction::Cancel
    };
    let ids: Vec<Uuid> =
        fields.iter().filter(|(name, _)| name == "job").filter_map(|(_, id)| id.parse().ok()).collect();
    let bulk = match is("which", "all") {
        true => Bulk { action, ids: None, filter: Some(wanted.filter()) },
        false => Bulk { action, ids: Some(ids), filter: None },
    };
    let Json(outcome) = api::bulk(state, caller.0, Json(bulk)).await?;
    let why = outcome.skipped.first().map_or("", |skipped| skipped.reason);
    let told = form_urlencoded::Serializer::new(wanted.query())
        .append_pair("done", &outcome.done.to_string())
        .append_pair("refused", &outcome.skipped.len().to_string())
        .append_pair("why", why)
        .append_pair("more", if outcome.more { "true" } else { "false" })
        .finish();
    // From a job's own page one goes back there.
    let alone = query.as_deref().and_then(|query| query.strip_prefix("alone=")).and_then(|id| Uuid::parse_str(id).ok());
    if let (Some(id), 0) = (alone, outcome.skipped.len()) {
        return Ok(Redirect::to(&format!("/fleet/jobs/{id}")).into_response());
    }
    Ok(Redirect::to(&format!("/fleet/jobs?{told}")).into_response())
}
