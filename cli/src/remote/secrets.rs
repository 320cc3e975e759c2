//! `buildit secrets list`, `set` and `delete`.

use serde_json::{Value, json};

use super::{
    arguments::{SecretName, SecretsOf},
    ask,
    error::Error,
    on_server, print,
};
use crate::exit::{Exit, Problem};

pub(crate) fn list(of: &SecretsOf) -> Result<Exit, Problem> {
    on_server(async |server| {
        let path = place(of);
        let found = server.list(&path, &[], usize::MAX).await.map_err(Error::problem)?;
        if of.format.json {
            print::json(&found)?;
            return Ok(Exit::Success);
        }
        let text = |secret: &Value, field: &str| print::tame(secret[field].as_str().unwrap_or_default(), 100);
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|secret| {
                let at = text(secret, "set_at").parse().map_or_else(|_| String::new(), print::ago);
                vec![text(secret, "name"), text(secret, "environment"), at, text(secret, "set_by")]
            })
            .collect();
        print::table(&["NAME", "ENVIRONMENT", "SET", "BY"], &rows)?;
        Ok(Exit::Success)
    })
}

pub(crate) fn set(secret: &SecretName) -> Result<Exit, Problem> {
    on_server(async |server| {
        let value = ask::for_secret(&format!("Value of {}", secret.name)).await?;
        let mut path = place(&secret.of);
        path.push(&secret.name);
        server.put(&path, &json!({ "value": value })).await.map_err(Error::problem)?;
        said(secret, "set")
    })
}

pub(crate) fn delete(secret: &SecretName) -> Result<Exit, Problem> {
    on_server(async |server| {
        let mut path = place(&secret.of);
        path.push(&secret.name);
        server.delete(&path).await.map_err(Error::problem)?;
        said(secret, "deleted")
    })
}

fn place(of: &SecretsOf) -> Vec<&str> {
    match (&of.project, &of.environment) {
        (Some(project), Some(environment)) => vec!["projects", project, "environments", environment, "secrets"],
        (Some(project), None) => vec!["projects", project, "secrets"],
        (None, _) => vec!["secrets"],
    }
}

fn said(secret: &SecretName, what: &str) -> Result<Exit, Problem> {
    if secret.of.format.json {
        let SecretsOf { project, environment, .. } = &secret.of;
        print::json(&json!({ "name": secret.name, "project": project, "environment": environment, "done": what }))?;
    } else {
        let project = secret.of.project.as_ref().map_or(String::new(), |project| format!(" of {project}"));
        let environment = secret.of.environment.as_ref().map_or(String::new(), |name| format!(" for {name}"));
        let of = project + &environment;
        print::line(&format!("{}{of} is {what}", secret.name))?;
    }
    Ok(Exit::Success)
}
