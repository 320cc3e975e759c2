//! `buildit cancel`, `retry` and `rerun`.

use serde_json::{Value, json};

use super::{
    arguments::{One, Retry},
    error::Error,
    find,
    model::Run,
    print,
    server::Server,
};
use crate::exit::{Exit, Problem};

pub(super) async fn cancel(server: &Server, arguments: &One) -> Result<Exit, Problem> {
    let id = find::run_id(server, &arguments.name).await?;
    let answer: Value = server.post(&["runs", &id, "cancel"], &json!({})).await.map_err(Error::problem)?;
    if arguments.format.json {
        print::json(&answer)?;
        return Ok(Exit::Success);
    }
    let run: Run = serde_json::from_value(answer)?;
    match run.status.is_ended() {
        true => print::line(&format!("run {} is cancelled", run.title()))?,
        false => print::line(&format!("run {} was asked to end; buildit watch {id}", run.title()))?,
    }
    Ok(Exit::Success)
}

pub(super) async fn retry(server: &Server, arguments: &Retry) -> Result<Exit, Problem> {
    let id = find::run_id(server, &arguments.name).await?;
    let wish = arguments.from.as_ref().map_or_else(|| json!({}), |from| json!({ "from": from }));
    let answer: Value = server.post(&["runs", &id, "retry"], &wish).await.map_err(Error::problem)?;
    if arguments.format.json {
        print::json(&answer)?;
        return Ok(Exit::Success);
    }
    let run: Run = serde_json::from_value(answer)?;
    let again: Vec<&str> =
        run.steps.iter().filter(|step| !step.status.is_ended()).map(|step| step.name.as_str()).collect();
    let again = if again.is_empty() { String::new() } else { format!(": {}", again.join(", ")) };
    print::line(&format!("run {} goes on{again}; buildit watch {id}", run.title()))?;
    Ok(Exit::Success)
}

pub(super) async fn rerun(server: &Server, arguments: &One) -> Result<Exit, Problem> {
    let id = find::run_id(server, &arguments.name).await?;
    let started: Value = server.post(&["runs", &id, "rerun"], &json!({})).await.map_err(Error::problem)?;
    if arguments.format.json {
        print::json(&started)?;
    } else {
        let (number, url) = (&started["number"], started["url"].as_str().unwrap_or_default());
        print::line(&format!("run #{number} has started: {url}"))?;
    }
    Ok(Exit::Success)
}
