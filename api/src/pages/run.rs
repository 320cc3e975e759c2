//! A run: what became of it, its steps, the graph, and the log of the step that one wants to see first.

use askama::Template;
use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::{
    db::{
        artifact_queries, overviews,
        run_queries::Run,
        step_queries::{self, Attempt, Step},
    },
    domain::{AttemptStatus, RunStatus, StepStatus},
    ids::StepId,
    permission::Permission,
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    account::Nothing,
    diagnostics::{self, Diagnostic},
    error::{Result, Visitor, wants_page},
    graph::{Given, Graph},
    layout::{Layout, page},
    log,
    pipeline::trigger_name,
    status::Status,
    text::{Lasting, Sentence, When, first_line, part, short_ref, size},
    waiting,
};
use crate::{
    App,
    auth::{ProjectRead, ProjectWrite, form::Form},
    error::ApiError,
    extract::{Json, Path, Query},
    routes::runs::{self, RunPath},
};

/// The most artifacts that a run's page names.
const ARTIFACTS: i64 = 100;

#[derive(Deserialize)]
pub(super) struct StepPath {
    pub(super) run: Uuid,
    pub(super) step: String,
}

#[derive(Deserialize)]
pub(super) struct Which {
    /// An attempt of the step; the last one without it.
    pub(super) attempt: Option<i32>,
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    layout: Layout,
    id: String,
    project: String,
    project_href: String,
    pipeline: String,
    pipeline_href: String,
    number: i32,
    title: String,
    status: Status,
    facts: Facts,
    verdict: Option<Verdict>,
    diagnostics: Vec<Diagnostic>,
    notes: Vec<Sentence>,
    steps: Vec<StepRow>,
    graph: Option<Graph>,
    log: Option<LogPane>,
    artifacts: Vec<Artifact>,
    may_cancel: bool,
    may_retry: bool,
    may_rerun: bool,
    /// The step that is shown, where the run can go on anew from it.
    retry_from: Option<String>,
}

struct Facts {
    took: Option<Lasting>,
    trigger: &'static str,
    by: String,
    author: Option<String>,
    git_ref: String,
    sha: Option<String>,
    created: When,
    generation: i32,
    /// What it was started with, as `NAME=value`.
    variables: Vec<String>,
}

/// What is to be run anew.
#[derive(Deserialize)]
pub(super) struct Retry {
    /// A step and all that depend on it, instead of what failed.
    from: Option<String>,
}

/// The one sentence that says how it stands, and what to do.
struct Verdict {
    class: &'static str,
    heading: String,
    sentence: Option<Sentence>,
    /// The end of the log of what failed.
    last_lines: String,
    href: Option<String>,
}

struct StepRow {
    id: StepId,
    name: String,
    href: String,
    status: Status,
    took: Option<Lasting>,
    why: Option<Sentence>,
    may_fail: bool,
    is_selected: bool,
}

struct LogPane {
    step: String,
    image: String,
    status: Status,
    exit_code: Option<i32>,
    attempt: i32,
    attempts: Vec<AttemptLink>,
    is_live: bool,
    is_failed: bool,
    /// Addresses of the API and of these pages.
    log: String,
    index: String,
    find: String,
    /// The commands' first lines, as JSON.
    commands: String,
    /// Why there is no log.
    absent: Option<Sentence>,
}

struct AttemptLink {
    number: i32,
    href: String,
    status: &'static str,
}

struct Artifact {
    name: String,
    href: String,
    about: String,
}

/// `GET /runs/{run}`: opens at the step that failed, or at the one at work. A run's address in the API is this one too, so
/// whoever does not ask for a page gets the JSON.
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    headers: HeaderMap,
    Path(path): Path<RunPath>,
) -> Result<Response> {
    if !wants_page(&headers) {
        return Ok(Json(runs::read_run(&app, &caller, path.run).await?).into_response());
    }
    render(&app, &caller, path.run, None, None).await
}

/// `GET /runs/{run}/steps/{step}`
pub(super) async fn show_step(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<StepPath>,
    Query(which): Query<Which>,
) -> Result<Response> {
    render(&app, &caller, path.run, Some(&path.step), which.attempt).await
}

async fn render(
    app: &App,
    caller: &Visitor<ProjectRead>,
    id: Uuid,
    wanted: Option<&str>,
    attempt: Option<i32>,
) -> Result<Response> {
    let run = runs::find(app, caller, id).await?;
    let steps = step_queries::steps(app.pool(), run.id).await?;
    let attempts = step_queries::attempts(app.pool(), run.id).await?;
    let waits = waiting::sentences(app, &run, &steps, &attempts).await?;
    let selected = match wanted {
        Some(name) => {
            Some(steps.iter().find(|step| step.name == name).ok_or_else(|| ApiError::not_found("step", name))?)
        }
        None => first_to_see(&steps),
    };
    let base = format!("/runs/{}", run.id);
    let href = |step: &Step| format!("{base}/steps/{}", part(&step.name));
    let is_selected = |step: &Step| selected.is_some_and(|selected| selected.id == step.id);

    let given: Vec<_> = steps
        .iter()
        .map(|step| Given {
            name: &step.name,
            status: step.status.into(),
            depends_on: &step.depends_on,
            took: Lasting::of(step.started_at, step.finished_at),
            href: href(step),
            is_selected: is_selected(step),
        })
        .collect();
    let rows = steps.iter().map(|step| StepRow {
        id: step.id,
        name: step.name.clone(),
        href: href(step),
        status: step.status.into(),
        took: Lasting::of(step.started_at, step.finished_at),
        why: match step.status {
            StepStatus::Success => None,
            StepStatus::Pending | StepStatus::Running => waits.of(step.id).map(|why| Sentence(why.into())),
            _ => step.reason.clone().map(Sentence),
        },
        may_fail: step.allow_failure,
        is_selected: is_selected(step),
    });
    let log = match selected {
        Some(step) => Some(log_pane(app, &run, step, &attempts, attempt, waits.of(step.id)).await?),
        None => None,
    };
    let verdict = verdict(app, &run, &steps, &attempts, waits.run.as_deref(), &href).await?;
    let artifacts = artifact_queries::list(app.pool(), run.id, None, ARTIFACTS).await?;

    let may_write = caller.has(Permission::ProjectWrite);
    let is_ended = run.status.is_ended();
    let message = run.commit_message.as_deref().map(first_line).filter(|line| !line.is_empty());
    let title = message.map_or_else(|| format!("Run {}", run.number), str::to_owned);
    let mut layout = Layout::of(caller, "projects", format!("{} #{} {}", run.project, run.number, run.status.name()))
        .with_icon(run.status.name())
        .wide();
    if !is_ended {
        layout = layout.live(format!("/live{base}"));
    }
    let project_href = format!("/projects/{}", part(&run.project));
    let graph = Graph::of(&given);
    Ok(page(&RunPage {
        layout,
        id: run.id.to_string(),
        pipeline_href: format!("{project_href}/pipelines/{}", part(&run.pipeline)),
        project_href,
        status: run.status.into(),
        facts: Facts {
            took: Lasting::of(run.started_at, run.finished_at),
            trigger: trigger_name(run.trigger),
            author: run.commit_author.clone(),
            git_ref: short_ref(run.branch.as_deref(), &run.git_ref),
            sha: run.commit_sha.clone(),
            created: When::of(run.created_at),
            generation: run.generation,
            by: run.created_by.clone(),
            variables: run.variables.0.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        },
        verdict,
        diagnostics: run.diagnostics.as_ref().map(diagnostics::stored).unwrap_or_default(),
        notes: run.notes.into_iter().map(Sentence).collect(),
        steps: rows.collect(),
        graph,
        log,
        artifacts: artifacts
            .into_iter()
            .map(|artifact| Artifact {
                href: format!("{base}/artifacts/{}", part(&artifact.name)),
                about: match artifact.files {
                    1 => size(artifact.size),
                    files => format!("{files} files, {}", size(artifact.size)),
                },
                name: artifact.name,
            })
            .collect(),
        may_cancel: may_write && !is_ended && run.cancel_requested_at.is_none(),
        may_retry: may_write && matches!(run.status, RunStatus::Failure | RunStatus::Error | RunStatus::Cancelled),
        may_rerun: may_write && is_ended,
        retry_from: selected
            .filter(|step| may_write && is_ended && step.started_at.is_some())
            .map(|step| step.name.clone()),
        project: run.project,
        pipeline: run.pipeline,
        number: run.number,
        title,
    }))
}

/// What failed, else what is at work, else what ended last.
fn first_to_see(steps: &[Step]) -> Option<&Step> {
    let first = |status: StepStatus| steps.iter().find(|step| step.status == status && !step.allow_failure);
    first(StepStatus::Error)
        .or_else(|| first(StepStatus::Failure))
        .or_else(|| steps.iter().find(|step| step.status == StepStatus::Running))
        .or_else(|| {
            steps
                .iter()
                .filter(|step| step.started_at.is_some())
                .max_by_key(|step| step.finished_at.map(|at| at.to_jiff()))
        })
        .or_else(|| steps.first())
}

async fn log_pane(
    app: &App,
    run: &Run,
    step: &Step,
    attempts: &[Attempt],
    wanted: Option<i32>,
    waits: Option<&str>,
) -> Result<LogPane> {
    let of_step: Vec<_> = attempts.iter().filter(|attempt| attempt.step_id == step.id).collect();
    let shown = match wanted {
        Some(number) => Some(
            *of_step
                .iter()
                .find(|attempt| attempt.number == number)
                .ok_or_else(|| ApiError::not_found("attempt", number))?,
        ),
        None => of_step.last().copied(),
    };
    let name = part(&step.name);
    let number = shown.map_or(1, |attempt| attempt.number);
    let began = shown.is_some_and(|attempt| attempt.started_at.is_some() || attempt.log_len > 0);
    let absent = (!began).then(|| match (step.status, &step.reason, waits) {
        (StepStatus::Pending | StepStatus::Running, _, Some(waits)) => waits.to_owned(),
        (StepStatus::Pending | StepStatus::Running, _, None) => "It has not begun yet.".into(),
        (_, Some(reason), _) => format!("It never began: {reason}"),
        (_, None, _) => "It never began.".into(),
    });
    let absent = absent.map(Sentence);
    let commands = overviews::commands(app.pool(), step.id).await?;
    let path = format!("runs/{}/steps/{name}", run.id);
    Ok(LogPane {
        step: step.name.clone(),
        image: step.image.clone(),
        status: step.status.into(),
        exit_code: shown.and_then(|attempt| attempt.exit_code),
        attempt: number,
        attempts: of_step
            .iter()
            .map(|attempt| AttemptLink {
                number: attempt.number,
                href: format!("/{path}?attempt={}", attempt.number),
                status: attempt_name(attempt.status),
            })
            .collect(),
        is_live: shown.is_some_and(|attempt| attempt.finished_at.is_none()),
        is_failed: shown.is_some_and(|attempt| Status(attempt_name(attempt.status)).is_bad()),
        log: format!("/api/v1/{path}/logs?attempt={number}"),
        index: format!("/{path}/log/index?attempt={number}"),
        find: format!("/{path}/log/search?attempt={number}"),
        commands: serde_json::to_string(&log::first_lines(&commands)).map_err(ApiError::internal)?,
        absent,
    })
}

pub(super) fn attempt_name(status: AttemptStatus) -> &'static str {
    match status {
        AttemptStatus::Pending => "pending",
        AttemptStatus::Running => "running",
        AttemptStatus::Success => "success",
        AttemptStatus::Failure => "failure",
        AttemptStatus::Cancelled => "cancelled",
        AttemptStatus::Error => "error",
        AttemptStatus::Lost => "lost",
    }
}

async fn verdict(
    app: &App,
    run: &Run,
    steps: &[Step],
    attempts: &[Attempt],
    waits: Option<&str>,
    href: &impl Fn(&Step) -> String,
) -> Result<Option<Verdict>> {
    let plain = |class, heading: &str, sentence: Option<String>| Verdict {
        class,
        heading: heading.into(),
        sentence: sentence.map(Sentence),
        last_lines: String::new(),
        href: None,
    };
    Ok(match run.status {
        RunStatus::Failure | RunStatus::Error => {
            let class = if run.status == RunStatus::Failure { "is-failure" } else { "is-error" };
            let guilty =
                first_to_see(steps).filter(|step| matches!(step.status, StepStatus::Failure | StepStatus::Error));
            let Some(step) = guilty else {
                let heading = if run.status == RunStatus::Failure {
                    "This run failed"
                } else {
                    "This run could not be carried out"
                };
                let broken = run.diagnostics.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
                let sentence = match broken {
                    0 => run.reason.clone(),
                    1 => Some("its pipeline file has a mistake.".into()),
                    mistakes => Some(format!("its pipeline file has {mistakes} mistakes.")),
                };
                return Ok(Some(plain(class, heading, sentence)));
            };
            let attempt = attempts.iter().rfind(|attempt| attempt.step_id == step.id);
            let heading = match step.status {
                StepStatus::Failure => format!("{} failed", step.name),
                _ => format!("{} could not be carried out", step.name),
            };
            Some(Verdict {
                class,
                heading,
                sentence: step.reason.clone().or_else(|| run.reason.clone()).map(Sentence),
                last_lines: match attempt {
                    Some(attempt) => log::last_lines(app, run.id, step.id, attempt).await,
                    None => String::new(),
                },
                href: Some(href(step)),
            })
        }
        RunStatus::Cancelled => Some(plain("", "Cancelled", run.reason.clone())),
        RunStatus::Skipped => Some(plain("", "Skipped", run.reason.clone())),
        _ if run.cancel_requested_at.is_some() => {
            Some(plain("is-waiting", "Being cancelled", Some("What is at work is stopped and keeps its log.".into())))
        }
        RunStatus::Pending => waits.map(|waits| plain("is-waiting", "Waiting", Some(waits.into()))),
        _ => None,
    })
}

fn back(run: Uuid) -> Response {
    Redirect::to(&format!("/runs/{run}")).into_response()
}

/// `POST /runs/{run}/cancel`
pub(super) async fn cancel(
    state: State<App>,
    caller: Visitor<ProjectWrite>,
    path: Path<RunPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let run = path.0.run;
    runs::cancel(state, caller.0, path).await?;
    Ok(back(run))
}

/// `POST /runs/{run}/retry`
pub(super) async fn retry(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<RunPath>,
    Form(retry): Form<Retry>,
) -> Result<Response> {
    runs::retry_run(&app, &caller, path.run, retry.from.as_deref()).await?;
    Ok(back(path.run))
}

/// `POST /runs/{run}/rerun`
pub(super) async fn rerun(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<RunPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let created = runs::rerun_run(&app, &caller, path.run).await?;
    Ok(back(created.run_id.uuid()))
}
