//! `buildit trigger`.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    arguments,
    error::Error,
    live::{Logs, Shown},
    print,
    server::Server,
    watch,
};
use crate::exit::{Exit, Problem};

pub(super) async fn run(server: &Server, arguments: arguments::Trigger) -> Result<Exit, Problem> {
    let mut variables = BTreeMap::new();
    for (name, value) in arguments.variables {
        if variables.insert(name.clone(), value).is_some() {
            return Err(Problem::usage(anyhow!("--var gives a value for {name} more than once")));
        }
    }
    let named = match (arguments.branch, arguments.tag) {
        (Some(branch), _) => Some(format!("refs/heads/{branch}")),
        (None, Some(tag)) => Some(format!("refs/tags/{tag}")),
        // A commit can stand for itself.
        (None, None) => arguments.commit.clone(),
    };
    // By this id a request whose answer was lost can be sent again.
    let mut wish = json!({ "variables": variables, "delivery": Uuid::new_v4() });
    let fields = [("ref", named), ("commit", arguments.commit), ("pipeline", arguments.pipeline)];
    for (field, value) in fields {
        if let Some(value) = value {
            wish[field] = value.into();
        }
    }
    let started: Value =
        server.post_again(&["projects", &arguments.project, "runs"], &wish).await.map_err(Error::problem)?;
    let id = started["id"].as_str().unwrap_or_default();
    if arguments.watch {
        let logs = if arguments.logs { Logs::New } else { Logs::Single };
        let shown = Shown { states: true, logs, fresh: true, json: arguments.format.json };
        return watch::watch(server, id, shown).await;
    }
    if arguments.format.json {
        print::json(&started)?;
    } else {
        let (number, url) = (&started["number"], started["url"].as_str().unwrap_or_default());
        print::line(&format!("run #{number} of {} has started: {url}", arguments.project))?;
    }
    Ok(Exit::Success)
}
