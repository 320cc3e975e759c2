//! The key that lies beside a repository: it can start runs of its one project, and nothing else.

use anyhow::{Context, anyhow};
use reqwest::StatusCode;
use serde_json::{Value, json};
use url::Url;

use super::transport::{client, exchange, message};
use crate::exit::{Exit, Problem};

/// Has the server make such a key with the rights of `token`. A token that may not make keys is taken for such a key itself.
pub(super) fn for_project(server: &Url, token: &str, project: &str) -> Result<String, Problem> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut address = server.clone();
        address
            .path_segments_mut()
            .map_err(|()| Problem::usage(anyhow!("{server} is not the address of a server")))?
            .pop_if_empty()
            .extend(["api", "v1", "api-keys"]);
        let new =
            json!({ "name": format!("push hook of {project}"), "permissions": ["run:trigger"], "project": project });
        let (status, body) = exchange(client()?.post(address).bearer_auth(token).json(&new))
            .await
            .with_context(|| format!("{server} does not answer, which has to make a key for the hook; is BuildIt up?"))
            .map_err(Problem::unreachable)?;
        match status {
            StatusCode::CREATED => {
                let made: Value = serde_json::from_slice(&body).context("the server's answer cannot be read")?;
                Ok(made["token"].as_str().context("the server's answer holds no key")?.to_owned())
            }
            StatusCode::FORBIDDEN => Ok(token.to_owned()),
            _ => Err(Problem {
                exit: Exit::Failure,
                error: anyhow!("the server made no key for the hook: {status}: {}", message(&body)),
            }),
        }
    })
}
