//! Which run somebody means.

use anyhow::anyhow;
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use super::{arguments::RunName, error::Error, here, model::Run, server::Server};
use crate::exit::Problem;

#[derive(Deserialize)]
struct Pipeline {
    id: String,
    name: String,
}

/// Which of a project's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Latest,
    Number(i32),
}

/// The run's id. Whether there is such a run shows once it is asked for.
pub(super) async fn run_id(server: &Server, name: &RunName) -> Result<String, Problem> {
    if let Ok(id) = name.run.parse::<Uuid>() {
        return Ok(id.to_string());
    }
    if let Some(url) = name.run.parse::<Url>().ok().filter(Url::has_host) {
        return of_address(server, &url);
    }
    let (project, run) = match name.run.split_once('#') {
        Some((project, run)) => (Some(project).filter(|project| !project.is_empty()), run),
        None => (None, name.run.as_str()),
    };
    let which = match run {
        "latest" => Which::Latest,
        number => number.parse().map(Which::Number).map_err(|_| {
            let forms = "its id, its address, PROJECT#NUMBER, or NUMBER or `latest` with --project";
            Problem::usage(anyhow!("{:?} names no run: write {forms}", name.run))
        })?,
    };
    let project = match project.or(name.project.as_deref()) {
        Some(project) => project.to_owned(),
        None => here::project(server).await?,
    };
    of_project(server, &project, name.pipeline.as_deref(), which).await
}

/// The run of an address that a page or a command shows.
fn of_address(server: &Server, url: &Url) -> Result<String, Problem> {
    if url.origin() != server.url().origin() {
        return Err(Problem::usage(anyhow!("{url} is not of {}, where you are logged in", server.url())));
    }
    let mut segments = url.path_segments().into_iter().flatten();
    let id = segments.find(|segment| *segment == "runs").and_then(|_| segments.next()?.parse::<Uuid>().ok());
    id.map(|id| id.to_string()).ok_or_else(|| Problem::usage(anyhow!("{url} is not the address of a run")))
}

async fn of_project(server: &Server, project: &str, pipeline: Option<&str>, which: Which) -> Result<String, Problem> {
    let pipelines = server.list(&["projects", project, "pipelines"], &[], usize::MAX).await.map_err(Error::problem)?;
    let mut pipelines: Vec<Pipeline> = pipelines.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    if let Some(wanted) = pipeline {
        pipelines.retain(|pipeline| pipeline.name == wanted || pipeline.id == wanted);
        if pipelines.is_empty() {
            return Err(anyhow!("{project} has no pipeline {wanted:?}").into());
        }
    }
    let number = match which {
        Which::Latest => None,
        Which::Number(number) => Some(number.to_string()),
    };
    let mut found: Vec<Run> = Vec::new();
    for pipeline in &pipelines {
        let mut query = vec![("pipeline", pipeline.id.as_str())];
        query.extend(number.as_deref().map(|number| ("number", number)));
        let runs = server.list(&["projects", project, "runs"], &query, 1).await.map_err(Error::problem)?;
        for run in runs {
            found.push(serde_json::from_value(run)?);
        }
    }
    let what = number.map_or_else(|| "no run yet".to_owned(), |number| format!("no run #{number}"));
    match (which, found.as_slice()) {
        (_, []) => Err(anyhow!("{project} has {what}; `buildit runs {project}` lists what there is").into()),
        // Ids ascend in time.
        (Which::Latest, runs) => Ok(runs.iter().map(|run| &run.id).max().cloned().unwrap_or_default()),
        (Which::Number(_), [run]) => Ok(run.id.clone()),
        (Which::Number(number), runs) => {
            let names: Vec<&str> = runs.iter().map(|run| run.pipeline.as_str()).collect();
            let names = names.join(", ");
            Err(Problem::usage(anyhow!(
                "several pipelines of {project} have a run #{number}: {names}; name one by --pipeline"
            )))
        }
    }
}
