//! `buildit logs`.

use anyhow::anyhow;

use super::{
    arguments,
    error::Error,
    find,
    live::{self, Logs, Shown},
    model::{Run, Step},
    server::Server,
    step_log::{self, To, Wanted},
};
use crate::{
    exit::{Exit, Problem},
    output::Output,
};

pub(super) async fn run(server: &Server, arguments: arguments::Logs) -> Result<Exit, Problem> {
    let id = find::run_id(server, &arguments.name).await?;
    let shown = tokio::select! {
        shown = show(server, &id, &arguments) => shown,
        _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
    };
    shown.map(|()| Exit::Success)
}

async fn show(server: &Server, id: &str, arguments: &arguments::Logs) -> Result<(), Problem> {
    let json = arguments.format.json;
    if arguments.follow && arguments.step.is_none() {
        let logs = if arguments.failed { Logs::Failed } else { Logs::All };
        return live::follow(server, id, Shown { states: false, logs, fresh: false, json }).await.map(|_| ());
    }
    let run: Run = server.get(&["runs", id], &[]).await.map_err(Error::problem)?;
    let wanted = |step: &&Step| match &arguments.step {
        Some(name) => step.name == *name || step.id == *name,
        None if arguments.failed => step.has_failed(),
        None => true,
    };
    let steps: Vec<&Step> = run.steps.iter().filter(wanted).collect();
    if let (Some(name), []) = (&arguments.step, steps.as_slice()) {
        let names: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
        return Err(match names.as_slice() {
            [] => anyhow!("run {} has no steps yet", run.title()),
            names => anyhow!("run {} has no step {name:?}; it has {}", run.title(), names.join(", ")),
        }
        .into());
    }
    if steps.is_empty() {
        let what = if arguments.failed { "no step that failed" } else { "no steps" };
        eprintln!("buildit: run {} has {what}", run.title());
    }
    write(server, id, &steps, arguments).await
}

/// One after the other.
async fn write(server: &Server, id: &str, steps: &[&Step], arguments: &arguments::Logs) -> Result<(), Problem> {
    let output = (steps.len() > 1 && !arguments.format.json)
        .then(|| Output::start(steps.iter().map(|step| step.name.clone()).collect()));
    for (position, step) in steps.iter().enumerate() {
        let last = step.attempts.last().map_or(0, |last| last.number);
        if last == 0 && !arguments.follow {
            eprintln!("buildit: step {} never began, so it has no log", step.name);
            continue;
        }
        if arguments.attempt.is_some_and(|number| !(1..=last).contains(&number)) {
            return Err(anyhow!("step {} has {last} attempts", step.name).into());
        }
        let wanted = Wanted {
            run: id.to_owned(),
            step: step.name.clone(),
            attempt: arguments.attempt.unwrap_or(last.max(1)),
            only: arguments.attempt.is_some(),
            follow: arguments.follow,
        };
        let to = match (&output, arguments.format.json) {
            (Some(output), _) => To::Lines(output.sender(), position),
            (None, true) => To::Json,
            (None, false) => To::Bytes,
        };
        step_log::write(server, &wanted, &to).await?;
    }
    if let Some(output) = output {
        output.finish("");
    }
    Ok(())
}
