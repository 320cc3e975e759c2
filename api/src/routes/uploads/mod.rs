//! Runners store the log, outputs and artifacts by themselves: promise an object, ask for the address of each part, send
//! the parts there, complete. The bytes pass neither the API nor a worker, but for those of a short log, which come with
//! its promise. Each call may be repeated.

mod object;

use axum::{extract::State, http::HeaderMap};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    auth::Runner,
    error::{ErrorBody, Result},
    extract::{Json, Path},
};
use object::Object;

/// What a runner stores: `log` or `outputs`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ObjectPath {
    /// The attempt's id.
    #[allow(dead_code, reason = "read by whoever checks the token")]
    attempt: Uuid,
    /// `log` or `outputs`.
    name: String,
}

/// An artifact that a runner stores.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ArtifactPath {
    /// The attempt's id.
    #[allow(dead_code, reason = "read by whoever checks the token")]
    attempt: Uuid,
    /// The artifact's name.
    name: String,
}

/// The runner that it begun by, with the word it began by.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "for the document")]
pub(crate) struct RunnerHeader {
    /// What the runner sent to `begin`.
    #[param(rename = "x-buildit-runner")]
    runner: String,
}

/// What an object is to become.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PromiseObject {
    /// Its length in bytes.
    size: u64,
    /// Of its bytes, in hexadecimal.
    sha256: String,
    /// Of a log of at most 64 KiB: its bytes, in base64, which are stored at once. No part is to be sent then.
    bytes: Option<String>,
}

/// Where an object stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct ObjectUpload {
    /// It is there, whole: send nothing.
    exists: bool,
    /// The upload; null when it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
    /// The length of each part but the last, which has the rest; an empty object is one empty part.
    part_size: u64,
    /// How many parts there are.
    parts: u64,
}

/// A part that is about to be sent.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AskForPart {
    /// The upload.
    upload: String,
    /// From 1.
    part: u32,
    /// Its length in bytes.
    size: u64,
}

/// Where to send a part.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartAddress {
    /// PUT it here, without any key, with exactly this length. The answer's `ETag` is needed to complete.
    url: String,
}

/// All parts were sent.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CompleteObject {
    /// The upload.
    upload: String,
    /// The `ETag` of each part, in order.
    parts: Vec<String>,
    /// The object's length in bytes.
    size: u64,
    /// Of its bytes, in hexadecimal.
    sha256: String,
}

/// The object is whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct Completed {}

/// Promise the log or the outputs. 409 `immutable` when there is another one already.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/objects/{name}", tag = "attempts",
    operation_id = "promise_object", security(("attempt_token" = [])), params(ObjectPath, RunnerHeader),
    responses((status = 200, body = ObjectUpload), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn promise(
    State(app): State<App>,
    Runner(attempt): Runner,
    Path(path): Path<ObjectPath>,
    headers: HeaderMap,
    Json(body): Json<PromiseObject>,
) -> Result<Json<ObjectUpload>> {
    Object::find(&app, attempt, &path.name, &headers).await?.promise(&body).await
}

/// Promise an artifact.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/objects/artifacts/{name}", tag = "attempts",
    operation_id = "promise_artifact", security(("attempt_token" = [])), params(ArtifactPath, RunnerHeader),
    responses((status = 200, body = ObjectUpload), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn promise_artifact(
    State(app): State<App>,
    Runner(attempt): Runner,
    Path(path): Path<ArtifactPath>,
    headers: HeaderMap,
    Json(body): Json<PromiseObject>,
) -> Result<Json<ObjectUpload>> {
    Object::artifact(&app, attempt, path, &headers).await?.promise(&body).await
}

/// Where to send a part of the log or the outputs; good for 15 minutes. 409 `no_upload` when it has to be promised anew.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/objects/{name}/parts", tag = "attempts",
    operation_id = "address_part", security(("attempt_token" = [])), params(ObjectPath, RunnerHeader),
    responses((status = 200, body = PartAddress), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn part(
    State(app): State<App>,
    Runner(attempt): Runner,
    Path(path): Path<ObjectPath>,
    headers: HeaderMap,
    Json(body): Json<AskForPart>,
) -> Result<Json<PartAddress>> {
    Object::find(&app, attempt, &path.name, &headers).await?.part(&body).await
}

/// Where to send a part of an artifact.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/objects/artifacts/{name}/parts", tag = "attempts",
    operation_id = "address_artifact_part", security(("attempt_token" = [])), params(ArtifactPath, RunnerHeader),
    responses((status = 200, body = PartAddress), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn part_of_artifact(
    State(app): State<App>,
    Runner(attempt): Runner,
    Path(path): Path<ArtifactPath>,
    headers: HeaderMap,
    Json(body): Json<AskForPart>,
) -> Result<Json<PartAddress>> {
    Object::artifact(&app, attempt, path, &headers).await?.part(&body).await
}

/// Make the log or the outputs of their parts.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/objects/{name}/complete", tag = "attempts",
    operation_id = "complete_object", security(("attempt_token" = [])), params(ObjectPath, RunnerHeader),
    responses((status = 200, body = Completed), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn complete(
    State(app): State<App>,
    Runner(attempt): Runner,
    Path(path): Path<ObjectPath>,
    headers: HeaderMap,
    Json(body): Json<CompleteObject>,
) -> Result<Json<Completed>> {
    Object::find(&app, attempt, &path.name, &headers).await?.complete(&body).await
}

/// Make an artifact of its parts.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/objects/artifacts/{name}/complete", tag = "attempts",
    operation_id = "complete_artifact", security(("attempt_token" = [])), params(ArtifactPath, RunnerHeader),
    responses((status = 200, body = Completed), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn complete_artifact(
    State(app): State<App>,
    Runner(attempt): Runner,
    Path(path): Path<ArtifactPath>,
    headers: HeaderMap,
    Json(body): Json<CompleteObject>,
) -> Result<Json<Completed>> {
    Object::artifact(&app, attempt, path, &headers).await?.complete(&body).await
}
