//! Whether and where a project's forge is told how the runs of its commits stand.

use axum::{extract::State, http::StatusCode};
use buildit_shared::db::{
    audit::{self, Entry},
    commit_statuses,
    forge_hooks::Forge,
    forge_statuses::{self, Destination},
    projects::Project,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    projects::{self, ProjectPath},
    webhooks::check_url,
};
use crate::{
    App,
    auth::{Allowed, Caller, ProjectRead, SecretsWrite},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path},
};

/// How many of the newest statuses are shown.
const SHOWN: i64 = 10;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetStatuses {
    /// `github`, `gitlab`, or `gitea`, which is Forgejo too.
    #[schema(value_type = String)]
    pub(crate) forge: Forge,
    /// A token that may write commit statuses. It cannot be read again, and goes to this address alone.
    pub(crate) token: String,
    /// The address of the forge's API; without it that of the forge that the project's repository is at.
    pub(crate) api_url: Option<String>,
    /// The repository's name there, such as `team/web`; without it as the project's repository says.
    pub(crate) repository: Option<String>,
}

/// Where a project's statuses go, and what became of the newest.
#[derive(Serialize, ToSchema)]
pub(crate) struct Statuses {
    /// `github`, `gitlab` or `gitea`.
    pub(crate) forge: &'static str,
    pub(crate) api_url: String,
    pub(crate) repository: String,
    /// Who set it.
    pub(crate) set_by: String,
    pub(crate) set_at: Timestamp,
    /// Newest first.
    pub(crate) newest: Vec<CommitStatus>,
}

/// What the forge was told of a commit, or is to be told.
#[derive(Serialize, ToSchema)]
pub(crate) struct CommitStatus {
    pub(crate) commit_sha: String,
    /// What tells a commit's statuses apart: `buildit/` and the pipeline's name, and `/mr` for merge requests.
    pub(crate) context: String,
    /// The run; it may be gone.
    pub(crate) run_id: Uuid,
    /// How the run stood.
    pub(crate) status: &'static str,
    pub(crate) changed_at: Timestamp,
    /// Whether the forge took it.
    pub(crate) sent: bool,
    /// Why the last try did not work.
    pub(crate) error: Option<String>,
}

/// Whether and where the forge is told, and what became of the newest statuses.
#[utoipa::path(get, path = "/api/v1/projects/{project}/forge/statuses", tag = "forges", operation_id = "read_statuses",
    security(("api_key" = ["project:read"])), params(ProjectPath),
    responses((status = 200, body = Statuses), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ProjectPath>,
) -> Result<Json<Statuses>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    Ok(Json(shown(&app, &project).await?.ok_or_else(|| none_of(&project))?))
}

/// Have the forge told how the runs of a project's commits stand, from their next change on.
#[utoipa::path(put, path = "/api/v1/projects/{project}/forge/statuses", tag = "forges", operation_id = "set_statuses",
    security(("api_key" = ["secrets:write"])), params(ProjectPath), request_body = SetStatuses,
    responses((status = 200, body = Statuses), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Json(new): Json<SetStatuses>,
) -> Result<Json<Statuses>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    put(&app, &caller, &project, &new).await?;
    Ok(Json(shown(&app, &project).await?.ok_or_else(|| none_of(&project))?))
}

/// Tell the forge nothing any more, and forget the token.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/forge/statuses", tag = "forges",
    operation_id = "delete_statuses", security(("api_key" = ["secrets:write"])), params(ProjectPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<StatusCode> {
    let project = projects::find(&app, &caller, &path.project).await?;
    remove(&app, &caller, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn none_of(project: &Project) -> ApiError {
    ApiError::not_found("destination for the statuses of the project", &project.name)
}

/// Where a project's statuses go, if they do.
pub(crate) async fn shown(app: &App, project: &Project) -> Result<Option<Statuses>> {
    let Some(to) = forge_statuses::find(app.pool(), project.id).await? else { return Ok(None) };
    let newest = commit_statuses::newest(app.pool(), project.id, SHOWN).await?;
    let newest = newest.into_iter().map(|one| CommitStatus {
        commit_sha: one.commit_sha,
        context: one.context,
        run_id: one.run_id.uuid(),
        status: one.status.name(),
        changed_at: one.changed_at.to_jiff(),
        sent: one.sent,
        error: one.error,
    });
    Ok(Some(Statuses {
        forge: to.forge.name(),
        api_url: to.api_url,
        repository: to.repository,
        set_by: to.set_by,
        set_at: to.set_at.to_jiff(),
        newest: newest.collect(),
    }))
}

/// Has a project's statuses sent.
pub(crate) async fn put(app: &App, caller: &Caller, project: &Project, new: &SetStatuses) -> Result<()> {
    if new.token.is_empty() || new.token.len() > 4096 || !new.token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::invalid("token", "it is a line of up to 4096 letters, digits and signs"));
    }
    let to = destination(project, new)?;
    let mut tx = app.pool().begin().await?;
    forge_statuses::set(&mut *tx, app.vault()?, project.id, &to, &new.token, &caller.name()).await?;
    let entry = Entry::new("statuses.set", &project.name).id(project.id).project(project.id);
    let what = json!({ "forge": to.forge, "api_url": to.api_url, "repository": to.repository });
    audit::write(&mut *tx, caller.actor(), entry.after(what)).await?;
    tx.commit().await?;
    Ok(())
}

/// Has them sent no more.
pub(crate) async fn remove(app: &App, caller: &Caller, project: &Project) -> Result<()> {
    let mut tx = app.pool().begin().await?;
    if !forge_statuses::delete(&mut *tx, project.id).await? {
        return Err(none_of(project));
    }
    let entry = Entry::new("statuses.removed", &project.name).id(project.id).project(project.id);
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(())
}

fn destination(project: &Project, new: &SetStatuses) -> Result<Destination> {
    let place = place_of(&project.repository);
    let unknown =
        |field: &str| ApiError::invalid(field, "the project's repository does not tell it, so it is to be named");
    let api_url = match &new.api_url {
        Some(url) => {
            check_url(url).map_err(|_| ApiError::invalid("api_url", "this is no address of the form https://…"))?;
            if url.contains(['?', '#']) {
                return Err(ApiError::invalid("api_url", "it has a query or a fragment"));
            }
            url.trim_end_matches('/').to_owned()
        }
        None => {
            let (host, _) = place.as_ref().ok_or_else(|| unknown("api_url"))?;
            match (new.forge, host.as_str()) {
                (Forge::Github, "github.com") => "https://api.github.com".into(),
                (Forge::Github, host) => format!("https://{host}/api/v3"),
                (Forge::Gitlab, host) => format!("https://{host}/api/v4"),
                (Forge::Gitea, host) => format!("https://{host}/api/v1"),
            }
        }
    };
    let repository = match (&new.repository, place) {
        (Some(name), _) => name.clone(),
        (None, Some((_, name))) => name,
        (None, None) => return Err(unknown("repository")),
    };
    let parts: Vec<&str> = repository.split('/').collect();
    let plain = |part: &&str| {
        !matches!(*part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    // Only GitLab has groups in groups.
    let depth = if new.forge == Forge::Gitlab { 2..=20 } else { 2..=2 };
    if repository.len() > 500 || !parts.iter().all(plain) || !depth.contains(&parts.len()) {
        return Err(ApiError::invalid(
            "repository",
            format!("{repository:?} is no repository's name such as team/web"),
        ));
    }
    Ok(Destination { forge: new.forge, api_url, repository })
}

/// The host that serves an address' forge over https, and the repository's name there.
pub(crate) fn place_of(repository: &str) -> Option<(String, String)> {
    let (host, path) = match Url::parse(repository) {
        Ok(url) if url.scheme() == "https" || url.scheme() == "ssh" => {
            // The port of ssh tells nothing of the other.
            let port = url.port().filter(|_| url.scheme() == "https");
            let host = url.host_str()?;
            (port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")), url.path().to_owned())
        }
        _ if repository.starts_with('/') => return None,
        _ => {
            let (host, path) = repository.split_once(':')?;
            (host.rsplit_once('@').map_or(host, |(_, host)| host).to_owned(), path.to_owned())
        }
    };
    let name = path.trim_matches('/');
    Some((host, name.strip_suffix(".git").unwrap_or(name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_the_host_and_the_name() {
        for (address, host, name) in [
            ("https://github.com/team/web.git", "github.com", "team/web"),
            ("https://git.example:8443/team/web/", "git.example:8443", "team/web"),
            ("ssh://git@git.example:2222/team/web.git", "git.example", "team/web"),
            ("git@git.example:team/group/web.git", "git.example", "team/group/web"),
            ("git.example:team/web", "git.example", "team/web"),
        ] {
            assert_eq!(place_of(address), Some((host.to_owned(), name.to_owned())), "{address}");
        }
        assert_eq!(place_of("/srv/git/web.git"), None);
    }
}
