//! What runs left behind.

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::{db::artifact_queries, storage::disposition};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    objects,
    run_view::time,
    runs::{self, RunPath},
};
use crate::{
    App, archive,
    auth::{Allowed, ProjectRead},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// A named set of files.
#[derive(Serialize, ToSchema)]
pub(crate) struct Artifact {
    /// Unique in its run.
    name: String,
    /// How many files it has.
    files: i64,
    /// Their length in bytes, together.
    size: i64,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
}

/// One file of an artifact.
#[derive(Serialize, ToSchema)]
pub(crate) struct ArtifactFile {
    id: Uuid,
    /// Within the artifact.
    path: String,
    content_type: String,
    /// In bytes.
    size: i64,
    /// Of its bytes, in hexadecimal.
    sha256: String,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    /// Where it is downloaded from, without a key; good for 15 minutes.
    download_url: String,
}

impl From<artifact_queries::Artifact> for Artifact {
    fn from(artifact: artifact_queries::Artifact) -> Self {
        Self {
            name: artifact.name,
            files: artifact.files,
            size: artifact.size,
            expires_at: time(artifact.expires_at),
            created_at: artifact.created_at.to_jiff(),
        }
    }
}

/// An artifact of a run.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ArtifactPath {
    /// The run's id.
    run: Uuid,
    /// The artifact's name.
    name: String,
}

/// A file of an artifact.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct FilePath {
    /// The run's id.
    run: Uuid,
    /// The artifact's name.
    name: String,
    /// The file's path within the artifact; it may have slashes.
    path: String,
}

/// A run's artifacts, by name.
#[utoipa::path(get, path = "/api/v1/runs/{run}/artifacts", tag = "artifacts", operation_id = "list_artifacts",
    security(("api_key" = ["project:read"])), params(RunPath, PageParams),
    responses((status = 200, body = Page<Artifact>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<RunPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Artifact>>> {
    let run = runs::find(&app, &caller, path.run).await?;
    let after: Option<String> = page.after()?;
    let found = artifact_queries::list(app.pool(), run.id, after.as_deref(), page.fetch()?).await?;
    Ok(Json(page.page(found, |artifact| artifact.name.clone())?))
}

/// An artifact's files, by path.
#[utoipa::path(get, path = "/api/v1/runs/{run}/artifacts/{name}", tag = "artifacts", operation_id = "read_artifact",
    security(("api_key" = ["project:read"])), params(ArtifactPath, PageParams),
    responses((status = 200, body = Page<ArtifactFile>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn files(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ArtifactPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<ArtifactFile>>> {
    let run = runs::find(&app, &caller, path.run).await?;
    let after: Option<String> = page.after()?;
    let found = artifact_queries::files(app.pool(), run.id, &path.name, after.as_deref(), page.fetch()?).await?;
    if found.is_empty() && after.is_none() {
        return Err(ApiError::not_found("artifact", &path.name));
    }
    let mut linked = Vec::with_capacity(found.len());
    for file in found {
        let link = objects::link(&app, &file.storage_key, Some(base_name(&file.path))).await?;
        linked.push((file, link));
    }
    let page = page.page_with(
        linked,
        |(file, _)| file.path.clone(),
        |(file, download_url)| ArtifactFile {
            id: file.id.uuid(),
            path: file.path,
            content_type: file.content_type,
            size: file.size,
            sha256: file.sha256,
            expires_at: time(file.expires_at),
            created_at: file.created_at.to_jiff(),
            download_url,
        },
    )?;
    Ok(Json(page))
}

/// Download one file: a redirect to an address that needs no key.
#[utoipa::path(get, path = "/api/v1/runs/{run}/artifacts/{name}/files/{*path}", tag = "artifacts",
    operation_id = "download_artifact_file", security(("api_key" = ["project:read"])), params(FilePath),
    responses((status = 307, description = "to the file"), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn file(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<FilePath>,
) -> Result<Redirect> {
    let run = runs::find(&app, &caller, path.run).await?;
    let file = artifact_queries::file(app.pool(), run.id, &path.name, &path.path)
        .await?
        .ok_or_else(|| ApiError::not_found("file", &path.path))?;
    Ok(Redirect::temporary(&objects::link(&app, &file.storage_key, Some(base_name(&file.path))).await?))
}

/// Download all files of an artifact as one zip archive.
#[utoipa::path(get, path = "/api/v1/runs/{run}/artifacts/{name}/archive", tag = "artifacts",
    operation_id = "download_artifact", security(("api_key" = ["project:read"])), params(ArtifactPath),
    responses((status = 200, content_type = "application/zip", body = Vec<u8>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn archive(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ArtifactPath>,
) -> Result<Response> {
    let run = runs::find(&app, &caller, path.run).await?;
    if artifact_queries::files(app.pool(), run.id, &path.name, None, 1).await?.is_empty() {
        return Err(ApiError::not_found("artifact", &path.name));
    }
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_DISPOSITION, disposition(Some(&format!("{}.zip", path.name)))),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(archive::zip(app, run.id, path.name))).into_response())
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
