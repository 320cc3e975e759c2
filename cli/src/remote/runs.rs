//! `buildit runs`.

use super::{arguments, error::Error, model::Run, print, server::Server};
use crate::exit::{Exit, Problem};

/// Of a commit's message, in characters.
const MESSAGE: usize = 50;

pub(super) async fn run(server: &Server, arguments: arguments::Runs) -> Result<Exit, Problem> {
    let status = arguments.status.join(",");
    let mut query = Vec::new();
    if !status.is_empty() {
        query.push(("status", status.as_str()));
    }
    query.extend(arguments.branch.as_deref().map(|branch| ("ref", branch)));
    query.extend(arguments.trigger.as_deref().map(|trigger| ("trigger", trigger)));
    let path = match &arguments.project {
        Some(project) => vec!["projects", project, "runs"],
        None => vec!["runs"],
    };
    let most = arguments.limit.try_into().unwrap_or(usize::MAX);
    let found = server.list(&path, &query, most).await.map_err(Error::problem)?;
    if arguments.format.json {
        print::json(&found)?;
        return Ok(Exit::Success);
    }
    let runs: Vec<Run> = found.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    if runs.is_empty() {
        eprintln!("no run is like that");
        return Ok(Exit::Success);
    }
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    print::table(&["RUN", "PIPELINE", "STATUS", "REF", "COMMIT", "BY", "CREATED", "TOOK", "MESSAGE"], &rows)?;
    Ok(Exit::Success)
}

fn row(run: &Run) -> Vec<String> {
    vec![
        format!("{}#{}", run.project, run.number),
        print::tame(&run.pipeline, 30),
        run.status.name().to_owned(),
        print::tame(run.short_ref(), 30),
        run.short_sha().to_owned(),
        run.trigger.clone(),
        print::ago(run.created_at),
        run.duration_ms.map_or_else(|| "-".to_owned(), print::duration),
        print::tame(run.commit_message.as_deref().unwrap_or_default(), MESSAGE),
    ]
}
