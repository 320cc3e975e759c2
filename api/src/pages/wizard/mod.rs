//! From a repository to its first run: make a project or a pipeline, propose its file, say what starts it, and start it.
//!
//! What is in the repository a worker tells, by the job `LookAtRepository`. Nothing waits for it: a stack can be chosen by
//! hand, and the file is the user's to change.

mod new;
mod setup;
mod start;

use buildit_shared::db::{pipelines::Pipeline, projects::Project};
use serde::Deserialize;

use super::{error::Result, text::part};
use crate::{App, auth::Caller, error::ApiError, routes::projects};

pub(super) use new::{form as new_project, make as make_project, make_pipeline, pipeline_form};
pub(super) use setup::{check, live, look, save, show as setup};
pub(super) use start::show as start;

#[derive(Deserialize)]
pub(super) struct PipelinePath {
    pub(super) project: String,
    /// Its name.
    pub(super) pipeline: String,
}

/// Where in the wizard a page is, for the line of steps at its top.
struct Progress {
    now: usize,
}

impl Progress {
    const STEPS: [&'static str; 3] = ["Repository", "Pipeline file", "First run"];

    fn steps(&self) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
        let now = self.now;
        Self::STEPS.into_iter().zip(1..).map(move |(title, number)| {
            let state = match number {
                done if done < now => "done",
                this if this == now => "now",
                _ => "later",
            };
            (number, title, state)
        })
    }
}

async fn find(app: &App, caller: &Caller, path: &PipelinePath) -> Result<(Project, Pipeline)> {
    let project = projects::find(app, caller, &path.project).await?;
    let pipeline = buildit_shared::db::pipelines::find_named(app.pool(), project.id, &path.pipeline)
        .await?
        .ok_or_else(|| ApiError::not_found("pipeline", &path.pipeline))?;
    Ok((project, pipeline))
}

/// The address of a pipeline's page; the wizard's are below it.
fn address(project: &Project, pipeline: &Pipeline) -> String {
    format!("/projects/{}/pipelines/{}", part(&project.name), part(&pipeline.name))
}
