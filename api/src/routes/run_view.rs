//! A run and its steps, as JSON.

use std::collections::HashMap;

use buildit_shared::{
    db::{run_queries, step_queries},
    domain::{AttemptStatus, RunStatus, RunTrigger, StepStatus},
    ids::StepId,
    pipeline::GivenVariables,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::App;

/// One execution of a pipeline at one commit.
#[derive(Serialize, ToSchema)]
pub(crate) struct Run {
    pub(crate) id: Uuid,
    /// Within its pipeline.
    number: i32,
    project_id: Uuid,
    /// The project's name.
    project: String,
    pipeline_id: Uuid,
    /// The pipeline's name.
    pipeline: String,
    /// `pending`, `running`, `success`, `failure`, `cancelled`, `error` or `skipped`.
    #[schema(value_type = String)]
    status: RunStatus,
    /// `push`, `mr`, `schedule`, `api` or `manual`.
    #[schema(value_type = String)]
    trigger: RunTrigger,
    /// In full, such as `refs/heads/main`.
    #[serde(rename = "ref")]
    pub(crate) git_ref: String,
    /// Null for a tag.
    branch: Option<String>,
    commit_sha: Option<String>,
    commit_message: Option<String>,
    commit_author: Option<String>,
    /// One sentence: why it ended so and what to do.
    reason: Option<String>,
    /// What a reader should know, such as an artifact's pattern that matched nothing.
    notes: Vec<String>,
    /// What is wrong with its pipeline file.
    #[schema(value_type = Option<Vec<Object>>)]
    diagnostics: Option<Value>,
    /// Values that it was started with, for the file's `variables`.
    variables: GivenVariables,
    /// 1, and one more for each retry.
    generation: i32,
    cancel_requested_at: Option<Timestamp>,
    created_by: String,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// From start to end, in milliseconds.
    duration_ms: Option<i64>,
    /// Where it is.
    url: String,
}

/// A run with its steps.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunWithSteps {
    #[serde(flatten)]
    run: Run,
    /// In the order of the file; none until it is planned.
    steps: Vec<Step>,
}

/// One container of a run.
#[derive(Serialize, ToSchema)]
struct Step {
    id: Uuid,
    /// Unique in its run.
    name: String,
    image: String,
    /// `pending`, `running`, `success`, `failure`, `cancelled`, `error` or `skipped`.
    #[schema(value_type = String)]
    status: StepStatus,
    depends_on: Vec<String>,
    allow_failure: bool,
    exit_code: Option<i32>,
    /// One sentence: why it ended so and what to do.
    reason: Option<String>,
    /// The object that holds its last attempt's log, once it ended.
    log_ref: Option<String>,
    /// Where its log is read.
    log_url: String,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// From start to end, in milliseconds.
    duration_ms: Option<i64>,
    /// Tries at it, the last one last.
    attempts: Vec<Attempt>,
}

/// One try at a step.
#[derive(Serialize, ToSchema)]
struct Attempt {
    id: Uuid,
    /// Within its step, from 1.
    number: i32,
    /// `pending`, `running`, `success`, `failure`, `cancelled`, `error` or `lost`.
    #[schema(value_type = String)]
    status: AttemptStatus,
    exit_code: Option<i32>,
    reason: Option<String>,
    /// Bytes of its log so far.
    log_length: i64,
    log_ref: Option<String>,
    created_at: Timestamp,
    /// When it was handed to the executor.
    started_at: Option<Timestamp>,
    first_command_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    duration_ms: Option<i64>,
}

/// The address of a run: its page, and for programs the same as below `/api/v1`.
pub(crate) fn url(app: &App, id: impl std::fmt::Display) -> String {
    app.url(&format!("/runs/{id}"))
}

impl Run {
    pub(crate) fn of(app: &App, run: run_queries::Run) -> Self {
        Self {
            id: run.id.uuid(),
            number: run.number,
            project_id: run.project_id.uuid(),
            project: run.project,
            pipeline_id: run.pipeline_id.uuid(),
            pipeline: run.pipeline,
            status: run.status,
            trigger: run.trigger,
            git_ref: run.git_ref,
            branch: run.branch,
            commit_sha: run.commit_sha,
            commit_message: run.commit_message,
            commit_author: run.commit_author,
            reason: run.reason,
            notes: run.notes,
            diagnostics: run.diagnostics,
            variables: run.variables.0,
            generation: run.generation,
            cancel_requested_at: time(run.cancel_requested_at),
            created_by: run.created_by,
            created_at: run.created_at.to_jiff(),
            started_at: time(run.started_at),
            finished_at: time(run.finished_at),
            duration_ms: duration(run.started_at, run.finished_at),
            url: url(app, run.id),
        }
    }
}

impl RunWithSteps {
    /// Nothing more will happen in it, unless somebody retries it.
    pub(crate) fn is_ended(&self) -> bool {
        self.run.status.is_ended()
    }

    pub(crate) fn git_ref(&self) -> &str {
        &self.run.git_ref
    }

    pub(crate) fn of(
        app: &App,
        run: run_queries::Run,
        steps: Vec<step_queries::Step>,
        attempts: Vec<step_queries::Attempt>,
    ) -> Self {
        let run = Run::of(app, run);
        let mut by_step: HashMap<StepId, Vec<Attempt>> = HashMap::new();
        for attempt in attempts {
            by_step.entry(attempt.step_id).or_default().push(attempt.into());
        }
        let steps = steps
            .into_iter()
            .map(|step| Step {
                attempts: by_step.remove(&step.id).unwrap_or_default(),
                log_url: app.url(&format!("/api/v1/runs/{}/steps/{}/logs", run.id, step.name)),
                id: step.id.uuid(),
                name: step.name,
                image: step.image,
                status: step.status,
                depends_on: step.depends_on,
                allow_failure: step.allow_failure,
                exit_code: step.exit_code,
                reason: step.reason,
                log_ref: step.log_ref,
                started_at: time(step.started_at),
                finished_at: time(step.finished_at),
                duration_ms: duration(step.started_at, step.finished_at),
            })
            .collect();
        Self { run, steps }
    }
}

impl From<step_queries::Attempt> for Attempt {
    fn from(attempt: step_queries::Attempt) -> Self {
        Self {
            id: attempt.id.uuid(),
            number: attempt.number,
            status: attempt.status,
            exit_code: attempt.exit_code,
            reason: attempt.reason,
            log_length: attempt.log_len,
            log_ref: attempt.log_ref,
            created_at: attempt.created_at.to_jiff(),
            started_at: time(attempt.started_at),
            first_command_at: time(attempt.first_command_at),
            finished_at: time(attempt.finished_at),
            duration_ms: duration(attempt.started_at, attempt.finished_at),
        }
    }
}

pub(crate) fn time(at: Option<jiff_sqlx::Timestamp>) -> Option<Timestamp> {
    at.map(jiff_sqlx::Timestamp::to_jiff)
}

fn duration(from: Option<jiff_sqlx::Timestamp>, to: Option<jiff_sqlx::Timestamp>) -> Option<i64> {
    Some(to?.to_jiff().as_millisecond() - from?.to_jiff().as_millisecond())
}
