//! Forges: which one calls for a project, and its calls.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use buildit_shared::{
    db::{
        audit::{self, Actor, Entry},
        cancel::{self, Cancelled},
        create_run::MergeRequest,
        forge_hooks::{self, Forge, ForgeHook},
        run_queries, unless_deadlocked,
    },
    domain::RunTrigger,
    ids::{ProjectId, RunId},
    jobs::{DeliverWebhook, JobArgs, RunStep, UploadArtifacts},
    pipeline::MrAction,
    queue::Signal,
    token,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    deliveries::{Delivered, Start, start_all},
    projects::{self, ProjectPath},
    runs,
};
use crate::{
    App,
    auth::{Allowed, Caller, Client, ProjectRead, ProjectWrite},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path},
    forge::{self, Event},
    git_ref::{self, GitRef},
};

/// What every secret for a forge begins with.
const PREFIX: &str = "bif_";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetForge {
    /// `github`, `gitlab`, or `gitea`, which is Forgejo too.
    #[schema(value_type = String)]
    pub(crate) forge: Forge,
}

/// Who calls for a project.
#[derive(Serialize, ToSchema)]
pub(crate) struct ForgeView {
    /// `github`, `gitlab` or `gitea`.
    forge: &'static str,
    /// What the forge's webhook calls.
    url: String,
}

/// Who calls for a project from now on.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewForge {
    #[serde(flatten)]
    forge: ForgeView,
    /// For the forge. It is shown this once and never again.
    pub(crate) secret: String,
}

/// A project's hook.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct HookPath {
    /// The project's id.
    hook: Uuid,
}

fn view(app: &App, project: ProjectId, forge: Forge) -> ForgeView {
    ForgeView { forge: forge.name(), url: app.url(&format!("/api/v1/forges/{project}")) }
}

/// Which forge calls for a project.
#[utoipa::path(get, path = "/api/v1/projects/{project}/forge", tag = "forges", operation_id = "read_forge",
    security(("api_key" = ["project:read"])), params(ProjectPath),
    responses((status = 200, body = ForgeView), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ProjectPath>,
) -> Result<Json<ForgeView>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let hook = forge_hooks::find(app.pool(), project.id).await?;
    let hook = hook.ok_or_else(|| ApiError::not_found("forge of the project", &path.project))?;
    Ok(Json(view(&app, project.id, hook.forge)))
}

/// Have a forge call for a project, in the place of another. The answer has what to tell the forge: an address, and a new
/// secret.
#[utoipa::path(put, path = "/api/v1/projects/{project}/forge", tag = "forges", operation_id = "set_forge",
    security(("api_key" = ["project:write"])), params(ProjectPath), request_body = SetForge,
    responses((status = 200, body = NewForge), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    Json(new): Json<SetForge>,
) -> Result<Json<NewForge>> {
    Ok(Json(put(&app, &caller, &path.project, new).await?))
}

/// Has a forge call for a project.
pub(crate) async fn put(app: &App, caller: &Caller, project: &str, new: SetForge) -> Result<NewForge> {
    let project = projects::find(app, caller, project).await?;
    let secret = token::generate(PREFIX)?;
    let mut tx = app.pool().begin().await?;
    forge_hooks::set(&mut *tx, app.vault()?, project.id, new.forge, &secret).await?;
    let entry = Entry::new("forge.set", &project.name).id(project.id).project(project.id);
    audit::write(&mut *tx, caller.actor(), entry.after(json!({ "forge": new.forge }))).await?;
    tx.commit().await?;
    Ok(NewForge { forge: view(app, project.id, new.forge), secret })
}

/// Let no forge call for a project any more.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/forge", tag = "forges", operation_id = "delete_forge",
    security(("api_key" = ["project:write"])), params(ProjectPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<StatusCode> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let mut tx = app.pool().begin().await?;
    if !forge_hooks::delete(&mut *tx, project.id).await? {
        return Err(ApiError::not_found("forge of the project", &path.project));
    }
    let entry = Entry::new("forge.removed", &project.name).id(project.id).project(project.id);
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a forge calls: a push, or something that happened to a merge request. It proves who it is by the secret.
#[utoipa::path(post, path = "/api/v1/forges/{hook}", tag = "forges",
    operation_id = "receive_from_forge", security(()), params(HookPath),
    request_body(content = String, content_type = "application/json",
        example = json!("{\"ref\":\"refs/heads/main\",\"after\":\"5f1d0c7a2b9e4d6f8a0b1c2d3e4f5a6b7c8d9e0f\"}")),
    responses((status = 201, body = Delivered), (status = 200, description = "seen before, or nothing to run", body = Delivered),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn receive(
    State(app): State<App>,
    client: Client,
    Path(path): Path<HookPath>,
    headers: HeaderMap,
    body: std::result::Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<(StatusCode, Json<Delivered>)> {
    let body = body?;
    let hook = authentic(&app, ProjectId::from(path.hook), &headers, &body).await?;
    let event = forge::event(hook.forge, &headers, &body)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "invalid_message", error.to_string()))?;
    let nothing = Ok((StatusCode::OK, Json(Delivered { runs: Vec::new() })));
    let by = Actor { organization: Some(hook.organization_id), ..client.actor(None, None, hook.forge.name().into()) };
    let delivery = forge::delivery(hook.forge, &headers, &body);
    let start = |trigger, git_ref: GitRef, commit, merge_request| Start {
        organization: hook.organization_id,
        project: hook.project_id,
        trigger,
        git_ref: git_ref.full,
        branch: git_ref.branch,
        commit,
        delivery: delivery.clone(),
        merge_request,
        by: &by,
    };
    match event {
        Event::Other => nothing,
        Event::Push { git_ref, after } => {
            let git_ref = GitRef::parse_full(&git_ref)?;
            let commit = git_ref::commit("after", &after)?;
            if git_ref::is_zero(&commit) || !git_ref.is_branch_or_tag() {
                return nothing;
            }
            start_all(&app, start(RunTrigger::Push, git_ref, commit, None)).await
        }
        Event::MergeRequest { number, action, branch, commit, fork, git_ref } => {
            let commit = git_ref::commit("commit", &commit)?;
            let branch = GitRef::parse_full(&format!("refs/heads/{branch}"))?.branch;
            // One that comes again tells nothing of what runs by now: the request may be open again.
            let is_over = matches!(action, MrAction::Closed | MrAction::Merged);
            if is_over && run_queries::of_delivery(app.pool(), hook.project_id, &delivery).await?.is_empty() {
                cancel_all(&app, &hook, number, &by).await?;
            }
            let git_ref = GitRef { branch, ..GitRef::parse_full(&git_ref)? };
            let request = MergeRequest { number, action, fork };
            start_all(&app, start(RunTrigger::Mr, git_ref, commit, Some(request))).await
        }
    }
}

/// The hook whose secret the message was signed with. Whether there is a hook cannot be told from the answer.
async fn authentic(app: &App, project: ProjectId, headers: &HeaderMap, body: &[u8]) -> Result<ForgeHook> {
    if let Some(hook) = forge_hooks::find(app.pool(), project).await? {
        let secret = hook.secret(app.vault()?).map_err(ApiError::internal)?;
        if forge::is_authentic(hook.forge, &secret, headers, body) {
            return Ok(hook);
        }
    }
    Err(ApiError::unauthenticated("this message does not prove that it comes from the forge of a project here"))
}

/// Cancels what runs for a merge request that is over.
async fn cancel_all(app: &App, hook: &ForgeHook, number: i32, by: &Actor) -> Result<()> {
    for run in run_queries::active_of_merge_request(app.pool(), hook.project_id, number).await? {
        let told = unless_deadlocked(|| cancelled(app, hook, run.id, run.number, by)).await?;
        for job in told {
            app.notifier.send(Signal::Cancel(job));
        }
        for queue in [RunStep::QUEUE, UploadArtifacts::QUEUE, DeliverWebhook::QUEUE] {
            app.notifier.jobs(queue);
        }
        app.notifier.send(Signal::Run(run.id));
    }
    Ok(())
}

async fn cancelled(
    app: &App,
    hook: &ForgeHook,
    run: RunId,
    number: i32,
    by: &Actor,
) -> std::result::Result<Vec<buildit_shared::ids::JobId>, sqlx::Error> {
    let mut tx = app.pool().begin().await?;
    let cancelled = cancel::cancel_run(&mut tx, hook.organization_id, run, "the end of its merge request").await?;
    let Cancelled::Requested(jobs) = cancelled else { return Ok(Vec::new()) };
    audit::write(&mut *tx, by, runs::entry("run.cancelled", run, number, hook.project_id)).await?;
    tx.commit().await?;
    Ok(jobs)
}
