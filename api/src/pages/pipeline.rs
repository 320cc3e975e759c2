//! A pipeline: its runs, how long they take, and the button that starts one.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::{
    db::{
        overviews::{self, Took},
        pipelines,
        projects::Project,
        run_queries::{self, Filter},
    },
    domain::{RunStatus, RunTrigger},
    ids::RunId,
    permission::Permission,
    pipeline::GivenVariables,
};
use serde::Deserialize;

use super::{
    badge,
    error::{Result, Visitor},
    layout::{Layout, page},
    status::Status,
    text::{Lasting, When, duration, first_line, part, person, short_ref},
};
use crate::{
    App,
    auth::{Caller, ProjectRead, RunTrigger as MayTrigger, form::Form},
    error::ApiError,
    extract::{Path, Query},
    routes::{
        projects,
        runs::{self, RunFilter, StartRun},
    },
};

const PAGE: i64 = 30;
/// How many runs the trend shows.
const TREND: i64 = 40;

#[derive(Deserialize)]
pub(super) struct PipelinePath {
    project: String,
    /// Its name.
    pipeline: String,
}

/// The runs to show.
#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    status: String,
    #[serde(default)]
    branch: String,
    #[serde(default)]
    trigger: String,
    before: Option<RunId>,
}

#[derive(Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    branch: String,
    /// One a line, as `NAME=value`.
    #[serde(default)]
    variables: String,
}

#[derive(Template)]
#[template(path = "pipeline.html")]
struct PipelinePage {
    layout: Layout,
    project: String,
    name: String,
    address: String,
    source: String,
    config: Option<String>,
    default_branch: String,
    may_start: bool,
    runs: Vec<Row>,
    next: Option<String>,
    wanted: Wanted,
    is_filtered: bool,
    trend: Option<Trend>,
    repository: String,
    /// Addresses of the badge and of the feed, and of this page as seen from elsewhere.
    badge: String,
    feed: String,
    url: String,
    may_set_secrets: bool,
    may_change: bool,
}

impl PipelinePage {
    fn statuses(&self) -> [&'static str; 7] {
        [
            RunStatus::Success,
            RunStatus::Failure,
            RunStatus::Running,
            RunStatus::Pending,
            RunStatus::Error,
            RunStatus::Cancelled,
            RunStatus::Skipped,
        ]
        .map(RunStatus::name)
    }

    fn triggers(&self) -> [&'static str; 5] {
        ["push", "mr", "schedule", "api", "manual"]
    }
}

struct Row {
    href: String,
    number: i32,
    status: Status,
    title: String,
    by: String,
    trigger: &'static str,
    git_ref: String,
    sha: String,
    at: When,
    took: Option<Lasting>,
}

/// What started a run, as it is said.
pub(super) fn trigger_name(trigger: RunTrigger) -> &'static str {
    match trigger {
        RunTrigger::Push => "push",
        RunTrigger::Mr => "merge request",
        RunTrigger::Schedule => "schedule",
        RunTrigger::Api => "API",
        RunTrigger::Manual => "by hand",
    }
}

impl From<run_queries::Run> for Row {
    fn from(run: run_queries::Run) -> Self {
        let message = run.commit_message.as_deref().map(first_line).unwrap_or_default();
        let title = match (&run.reason, message) {
            (Some(reason), "") => reason.clone(),
            (_, "") => format!("Run {}", run.number),
            (_, message) => message.to_owned(),
        };
        Self {
            href: format!("/runs/{}", run.id),
            number: run.number,
            status: run.status.into(),
            title,
            by: run.commit_author.as_deref().map_or(run.created_by.as_str(), person).to_owned(),
            trigger: trigger_name(run.trigger),
            git_ref: short_ref(run.branch.as_deref(), &run.git_ref),
            sha: run.commit_sha.map(|sha| sha.chars().take(7).collect()).unwrap_or_default(),
            at: When::of(run.created_at),
            took: Lasting::of(run.started_at, run.finished_at),
        }
    }
}

/// Bars of the last runs' durations, in a drawing of 56 high.
struct Trend {
    bars: Vec<Bar>,
    width: usize,
    median: String,
    longest: String,
}

struct Bar {
    x: usize,
    y: i64,
    height: i64,
    status: Status,
    title: String,
    href: String,
}

impl Trend {
    const STEP: usize = 14;

    fn of(took: &[Took]) -> Option<Self> {
        let longest = took.iter().map(|run| run.milliseconds).max()?.max(1);
        let mut sorted: Vec<_> = took.iter().map(|run| run.milliseconds).collect();
        sorted.sort_unstable();
        let bars = took.iter().enumerate().map(|(i, run)| {
            let height = (run.milliseconds * 56 / longest).max(3);
            Bar {
                x: i * Self::STEP,
                y: 56 - height,
                height,
                status: run.status.into(),
                title: format!("#{} {} in {}", run.number, run.status.name(), duration(run.milliseconds)),
                href: format!("/runs/{}", run.id),
            }
        });
        Some(Self {
            bars: bars.collect(),
            width: took.len() * Self::STEP,
            median: duration(sorted[sorted.len() / 2]),
            longest: duration(longest),
        })
    }
}

async fn find(app: &App, caller: &Caller, path: &PipelinePath) -> Result<(Project, pipelines::Pipeline)> {
    let project = projects::find(app, caller, &path.project).await?;
    let pipeline = pipelines::find_named(app.pool(), project.id, &path.pipeline)
        .await?
        .ok_or_else(|| ApiError::not_found("pipeline", &path.pipeline))?;
    Ok((project, pipeline))
}

/// `GET /projects/{project}/pipelines/{pipeline}`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<PipelinePath>,
    Query(wanted): Query<Wanted>,
) -> Result<Response> {
    let (project, pipeline) = find(&app, &caller, &path).await?;
    let text = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
    let filter = RunFilter {
        status: text(&wanted.status),
        git_ref: text(&wanted.branch),
        trigger: text(&wanted.trigger),
        pipeline: Some(pipeline.id.uuid()),
        number: None,
    };
    let filter = Filter { project: Some(project.id), ..filter.parse()? };
    let mut found = run_queries::list(app.pool(), caller.scope(), &filter, wanted.before, PAGE + 1).await?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let address = format!("/projects/{}/pipelines/{}", part(&project.name), part(&pipeline.name));
    let next = found.last().filter(|_| more).map(|last| {
        let Wanted { status, branch, trigger, .. } = &wanted;
        format!(
            "{address}?status={}&branch={}&trigger={}&before={}",
            part(status),
            part(branch),
            part(trigger),
            last.id
        )
    });
    let took = overviews::durations(app.pool(), pipeline.id, TREND).await?;
    let is_filtered = filter.git_ref.is_some() || filter.trigger.is_some() || !filter.status.is_empty();
    let newest = found.first().filter(|_| wanted.before.is_none()).map_or("none", |run| run.status.name());
    let title = match pipeline.name == project.name || pipeline.name == "default" {
        true => project.name.clone(),
        false => format!("{} / {}", project.name, pipeline.name),
    };
    let (badge, feed) = badge::addresses(&app, pipeline.id);
    let layout = Layout::of(&caller, "projects", title).live("/live/runs".into()).with_icon(newest);
    Ok(page(&PipelinePage {
        layout,
        badge,
        feed,
        url: app.url(&address),
        may_change: caller.has(Permission::ProjectWrite),
        may_set_secrets: caller.has(Permission::SecretsWrite),
        address,
        source: pipeline.file.unwrap_or_else(|| "stored in BuildIt".into()),
        config: pipeline.config,
        name: pipeline.name,
        default_branch: project.default_branch,
        may_start: caller.has(Permission::RunTrigger),
        runs: found.into_iter().map(Row::from).collect(),
        next,
        is_filtered,
        wanted,
        trend: Trend::of(&took).filter(|trend| trend.bars.len() > 1),
        project: project.name,
        repository: project.repository,
    }))
}

/// `POST /projects/{project}/pipelines/{pipeline}/runs`: the button "Run now".
pub(super) async fn start(
    State(app): State<App>,
    caller: Visitor<MayTrigger>,
    Path(path): Path<PipelinePath>,
    Form(start): Form<Start>,
) -> Result<Response> {
    let (project, pipeline) = find(&app, &caller, &path).await?;
    let git_ref = Some(start.branch.trim().to_owned()).filter(|branch| !branch.is_empty());
    let start = StartRun { git_ref, variables: variables(&start.variables)?, ..StartRun::default() };
    let created = runs::start_run(&app, &caller, &project, pipeline.id, &start, RunTrigger::Manual).await?;
    Ok(Redirect::to(&format!("/runs/{}", created.run_id)).into_response())
}

/// What somebody wrote, one variable a line.
fn variables(text: &str) -> Result<GivenVariables> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let read = lines.map(|line| -> Result<(String, String)> {
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| ApiError::invalid("variables", format!("{line:?} is no line of the form NAME=value")))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    read.collect()
}
