//! A pipeline's file: what a worker saw in the repository, a proposal, and what is wrong with the text as it is typed.

use std::{convert::Infallible, time::Duration};

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode},
    response::{
        IntoResponse, Redirect, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use buildit_shared::{
    db::{
        pipelines::Pipeline,
        projects::{DEFAULT_FILE, Project},
        repository_looks::{self, Look},
    },
    ids::PipelineId,
    pipeline,
};
use futures::{StreamExt, stream};
use serde::Deserialize;

use super::{
    super::{
        diagnostics::Diagnostic,
        error::{Result, Visitor},
        layout::{Layout, page_with},
        text::Sentence,
    },
    PipelinePath, Progress, address, find, new,
};
use crate::{
    App,
    auth::{ProjectRead, ProjectWrite, form::Form},
    extract::{Json, Path, Query},
    routes::{
        pipelines::{self, PipelineChanges},
        projects::{self, ProjectChanges, ProjectPath},
    },
    stack::{Pushes, Stack, Triggers, propose},
};

/// Between two looks at whether a worker has looked.
const POLL: Duration = Duration::from_millis(300);

/// What to propose.
#[derive(Default, Deserialize)]
pub(in crate::pages) struct Wish {
    /// The one that was detected without it.
    stack: Option<Stack>,
    #[serde(default)]
    pushes: Pushes,
    #[serde(default)]
    mr: bool,
    #[serde(default)]
    cron: String,
    #[serde(default)]
    timezone: String,
}

#[derive(Deserialize)]
pub(in crate::pages) struct TextForm {
    config: String,
    /// `commit` or `store`.
    #[serde(default)]
    how: String,
}

#[derive(Deserialize)]
pub(in crate::pages) struct LookForm {
    #[serde(default)]
    branch: String,
}

#[derive(Template)]
#[template(path = "wizard_setup.html")]
struct SetupPage {
    layout: Layout,
    progress: Progress,
    project: Project,
    pipeline: String,
    address: String,
    /// Where the text belongs in the repository.
    file: String,
    /// A worker has not looked yet.
    is_pending: bool,
    seen: Option<Sentence>,
    problem: Option<Sentence>,
    wish: Wish,
    chosen: Option<Stack>,
    text: Option<Text>,
}

/// A pipeline's text and what is to be said of it.
struct Text {
    config: String,
    diagnostics: Vec<Diagnostic>,
    verdict: String,
}

#[derive(Template)]
#[template(path = "wizard_commit.html")]
struct CommitPage {
    layout: Layout,
    progress: Progress,
    project: Project,
    pipeline: String,
    address: String,
    file: String,
    folder: Option<String>,
    config: String,
}

impl Wish {
    fn triggers(&self) -> Triggers {
        let cron = self.cron.trim();
        let timezone = match self.timezone.trim() {
            "" => "UTC",
            timezone => timezone,
        };
        Triggers {
            pushes: self.pushes,
            merge_requests: self.mr,
            schedule: (!cron.is_empty()).then(|| (cron.to_owned(), timezone.to_owned())),
        }
    }

    fn pushes(&self, pushes: &str) -> bool {
        let name = match self.pushes {
            Pushes::All => "all",
            Pushes::Default => "default",
            Pushes::None => "none",
        };
        name == pushes
    }
}

impl SetupPage {
    fn is_chosen(&self, stack: Stack) -> bool {
        self.chosen == Some(stack)
    }
}

impl Text {
    fn of(file: &str, config: String) -> Self {
        let (diagnostics, verdict) = match pipeline::parse(file, &config) {
            Ok(parsed) => (Vec::new(), about(&parsed)),
            Err(found) => {
                let verdict = match found.len() {
                    1 => "One thing is wrong with it".to_owned(),
                    many => format!("{many} things are wrong with it"),
                };
                (found.into_iter().map(Diagnostic::from).collect(), verdict)
            }
        };
        Self { config, diagnostics, verdict }
    }

    /// The height of its field, in lines.
    fn rows(&self) -> usize {
        (self.config.lines().count() + 3).clamp(12, 28)
    }

    fn is_valid(&self) -> bool {
        self.diagnostics.is_empty()
    }
}

/// What a pipeline will do, in one line.
fn about(parsed: &pipeline::Pipeline) -> String {
    let steps = match parsed.steps.len() {
        1 => "one step".to_owned(),
        many => format!("{many} steps"),
    };
    let started = match &parsed.on {
        None => "each push of a branch".to_owned(),
        Some(on) => {
            let mut by = Vec::new();
            if on.push.is_some() {
                by.push("pushes".to_owned());
            }
            if on.mr.is_some() {
                by.push("merge requests".to_owned());
            }
            by.extend(
                on.schedule.iter().map(|schedule| format!("the clock at {} {}", schedule.cron, schedule.timezone)),
            );
            if by.is_empty() { "nobody but a person or a program that asks".to_owned() } else { by.join(", ") }
        }
    };
    format!("It is right: {steps}, started by {started}")
}

/// `GET …/setup`
pub(in crate::pages) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<PipelinePath>,
    Query(wish): Query<Wish>,
) -> Result<Response> {
    let (project, pipeline) = find(&app, &caller, &path).await?;
    render(&app, &caller, project, pipeline, wish, None).await
}

async fn render(
    app: &App,
    caller: &Visitor<ProjectWrite>,
    project: Project,
    pipeline: Pipeline,
    wish: Wish,
    config: Option<(StatusCode, String)>,
) -> Result<Response> {
    let look = match repository_looks::find(app.pool(), pipeline.id).await? {
        Some(look) => look,
        None => {
            new::ask(app, caller.scope().organization, project.id, pipeline.id).await?;
            Look { looked_at: None, commit_sha: None, files: Vec::new(), content: None, problem: None }
        }
    };
    let file = pipeline.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let is_pending = look.looked_at.is_none();
    let detected = Stack::detect(&look.files);
    let chosen = wish.stack.or_else(|| detected.map(|(stack, _)| stack)).or((!is_pending).then_some(Stack::Other));
    let there = pipeline.config.clone().or_else(|| look.content.clone());
    let (status, config) = match (config, wish.stack, there, chosen) {
        (Some((status, typed)), ..) => (status, Some(typed)),
        (None, None, Some(there), _) => (StatusCode::OK, Some(there)),
        (None, _, _, Some(stack)) => {
            (StatusCode::OK, Some(propose(stack, &look.files, &wish.triggers(), &project.default_branch)))
        }
        (None, _, _, None) => (StatusCode::OK, None),
    };
    let address = address(&project, &pipeline);
    let mut layout = Layout::of(caller, "projects", format!("Set up {}", project.name));
    if is_pending {
        layout = layout.live(format!("{address}/setup/live"));
    }
    Ok(page_with(
        status,
        &SetupPage {
            layout,
            progress: Progress { now: 2 },
            seen: look.commit_sha.as_deref().map(|sha| seen(&project, &pipeline, &look, sha, detected, &file)),
            problem: look.problem.map(Sentence),
            is_pending,
            text: config.map(|config| Text::of(&file, config)),
            pipeline: pipeline.name,
            address,
            file,
            wish,
            chosen,
            project,
        },
    ))
}

/// What a worker saw, in a sentence.
fn seen(
    project: &Project,
    pipeline: &Pipeline,
    look: &Look,
    sha: &str,
    detected: Option<(Stack, &str)>,
    file: &str,
) -> Sentence {
    let sha: String = sha.chars().take(7).collect();
    let there = match (&pipeline.config, &look.content) {
        (Some(_), _) => " Its pipeline is stored in BuildIt and shown below.".to_owned(),
        (None, Some(_)) => format!(" It has a `{file}` already, shown below."),
        (None, None) => String::new(),
    };
    let kind = match detected {
        Some((stack, sign)) => format!("it looks like {}, since there is a `{sign}`.", stack.title()),
        None => "nothing at its root tells what it is written in.".to_owned(),
    };
    Sentence(format!("`{}` is at `{sha}`, and {kind}{there}", project.default_branch))
}

/// `POST …/setup/look`: once more, of another branch if one is named.
pub(in crate::pages) async fn look(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<PipelinePath>,
    Form(form): Form<LookForm>,
) -> Result<Response> {
    let (project, pipeline) = find(&app, &caller, &path).await?;
    let address = address(&project, &pipeline);
    let organization = caller.scope().organization;
    let branch = form.branch.trim();
    if !branch.is_empty() && branch != project.default_branch {
        let changes = ProjectChanges { default_branch: Some(branch.to_owned()), ..ProjectChanges::default() };
        let path = Path(ProjectPath { project: path.project });
        projects::update(State(app.clone()), caller.0, path, Json(changes)).await?;
    }
    new::ask(&app, organization, project.id, pipeline.id).await?;
    Ok(Redirect::to(&format!("{address}/setup")).into_response())
}

/// `POST …/setup/check`: the page with what is wrong with the text as it is now.
pub(in crate::pages) async fn check(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<PipelinePath>,
    Form(form): Form<TextForm>,
) -> Result<Response> {
    let (project, pipeline) = find(&app, &caller, &path).await?;
    let config = form.config.replace("\r\n", "\n");
    render(&app, &caller, project, pipeline, Wish::default(), Some((StatusCode::OK, config))).await
}

/// `POST …/setup`: stored here, or shown as it is to be committed.
pub(in crate::pages) async fn save(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<PipelinePath>,
    Form(form): Form<TextForm>,
) -> Result<Response> {
    let (project, pipeline) = find(&app, &caller, &path).await?;
    let address = address(&project, &pipeline);
    // Forms end lines as no file here does.
    let config = form.config.replace("\r\n", "\n");
    let file = pipeline.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    if pipeline::parse(&file, &config).is_err() {
        let config = Some((StatusCode::UNPROCESSABLE_ENTITY, config));
        return render(&app, &caller, project, pipeline, Wish::default(), config).await;
    }
    let layout = Layout::of(&caller, "projects", format!("Set up {}", project.name));
    let path = Path(pipelines::PipelinePath { pipeline: pipeline.id.uuid() });
    if form.how == "store" {
        let changes = PipelineChanges { config: Some(config), ..PipelineChanges::default() };
        pipelines::update(State(app), caller.0, path, Json(changes)).await?;
        return Ok(Redirect::to(&format!("{address}/setup/start")).into_response());
    }
    if pipeline.config.is_some() {
        let changes = PipelineChanges { file: Some(file.clone()), ..PipelineChanges::default() };
        pipelines::update(State(app), caller.0, path, Json(changes)).await?;
    }
    let folder = file.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let progress = Progress { now: 2 };
    let commit = CommitPage { layout, progress, project, pipeline: pipeline.name, address, file, folder, config };
    Ok(page_with(StatusCode::OK, &commit))
}

/// `GET …/setup/live`: an event once a worker has looked.
pub(in crate::pages) async fn live(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<PipelinePath>,
) -> Result<Response> {
    let (_, pipeline) = find(&app, &caller, &path).await?;
    let mut response = Sse::new(looked(app, pipeline.id)).keep_alive(KeepAlive::default()).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Whoever connects reads first; then an event once there is an answer, which stays as it is until the page asks anew.
fn looked(app: App, pipeline: PipelineId) -> impl futures::Stream<Item = std::result::Result<Event, Infallible>> {
    let told = || Ok(Event::default().event("changed").data("now"));
    let shutdown = app.shutdown.clone().cancelled_owned();
    let answer = async move {
        loop {
            tokio::time::sleep(POLL).await;
            // While the database is away nothing is known to have changed.
            let look = repository_looks::find(app.pool(), pipeline).await;
            if look.is_ok_and(|look| look.is_none_or(|look| look.looked_at.is_some())) {
                return told();
            }
        }
    };
    stream::iter([told()]).chain(stream::once(answer)).chain(stream::pending()).take_until(shutdown)
}
