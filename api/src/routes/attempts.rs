//! What runners ask while they carry out an attempt. Each call may be repeated: after a lost answer, after a restart.

use std::time::Duration;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use buildit_shared::{
    db::attempts::{self, Begin, Beginner},
    ids::AttemptId,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{objects, run_events::concerns};
use crate::{
    App,
    auth::Runner,
    error::{ApiError, ErrorBody, Result},
    extract::Json,
};

/// How long a runner's question is held whose turn has not come.
const HOLD: Duration = Duration::from_secs(20);

/// The runner's word of chance, in all requests but `begin`.
pub(super) const RUNNER_HEADER: &str = "x-buildit-runner";

/// An attempt of a step.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "the path is read by whoever checks the token")]
pub(crate) struct AttemptPath {
    /// The attempt's id.
    attempt: Uuid,
}

/// A runner that is about to run the attempt's first command.
#[derive(Deserialize, ToSchema)]
pub(crate) struct BeginAttempt {
    /// Chosen at random by the runner for its whole life: 16 to 64 letters, digits, `-` and `_`.
    runner: String,
}

/// It is this runner's attempt.
#[derive(Serialize, ToSchema)]
pub(crate) struct Begun {
    /// Unpacked into the workspace first.
    checkout: Option<Download>,
    /// Unpacked over it, in this order.
    inputs: Vec<Download>,
}

/// A `tar.zst` in the object store.
#[derive(Serialize, ToSchema)]
pub(crate) struct Download {
    /// Where it is downloaded from, without a key; good for 15 minutes. Ask `begin` again for another one.
    url: String,
}

/// Win the attempt, once and for ever: 200 for the winner, however often it asks; 409 for everybody else; 410 where
/// there is nothing to begin any more. Where its turn has not come, the question is held until it does, for at most 20
/// seconds: 202, ask again. Whoever does not get a 200 runs no command.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/begin", tag = "attempts", operation_id = "begin_attempt",
    security(("attempt_token" = [])), params(AttemptPath),
    responses((status = 200, body = Begun), (status = 202, description = "not its turn yet; ask again"),
        (status = "4XX", body = ErrorBody)))]
pub(crate) async fn begin(
    State(app): State<App>,
    Runner(attempt): Runner,
    Json(body): Json<BeginAttempt>,
) -> Result<Response> {
    if !is_nonce(&body.runner) {
        return Err(ApiError::invalid("runner", "it takes 16 to 64 letters, digits, `-` and `_`"));
    }
    let runner = Beginner::Runner(&body.runner);
    let mut state = attempts::begin(app.runners(), attempt, runner).await?;
    if matches!(state, Begin::NotYet(_)) {
        let mut signals = app.signals().subscribe();
        let until = Instant::now() + HOLD;
        // What changed before the signals were heard is not told by them.
        state = attempts::begin(app.runners(), attempt, runner).await?;
        while let Begin::NotYet(run) = state {
            tokio::select! {
                () = app.shutdown.cancelled() => break,
                () = tokio::time::sleep_until(until) => break,
                () = async { while !concerns(&signals.next().await, run) {} } => {}
            }
            state = attempts::begin(app.runners(), attempt, runner).await?;
        }
    }
    match state {
        Begin::Won => Ok(Json(begun(&app, attempt).await?).into_response()),
        Begin::NotYet(_) => Ok(StatusCode::ACCEPTED.into_response()),
        Begin::Taken => Err(begun_by_another()),
        Begin::Over => Err(over()),
        Begin::Unknown => Err(unknown(attempt)),
    }
}

async fn begun(app: &App, attempt: AttemptId) -> Result<Begun> {
    let sources = attempts::sources(app.runners(), attempt).await?;
    let download = async |key: &str| objects::link(app, key, None).await.map(|url| Download { url });
    let checkout = match &sources.checkout {
        Some(key) => Some(download(key).await?),
        None => None,
    };
    let mut inputs = Vec::with_capacity(sources.inputs.len());
    for key in &sources.inputs {
        inputs.push(download(key).await?);
    }
    Ok(Begun { checkout, inputs })
}

pub(super) fn begun_by_another() -> ApiError {
    let message = "another runner began this attempt, or it was stopped before it began; run nothing";
    ApiError::conflict("begun_by_another", message)
}

pub(super) fn over() -> ApiError {
    let message = "this attempt has ended or its run is being cancelled; run nothing";
    ApiError::new(StatusCode::GONE, "attempt_over", message)
}

pub(super) fn unknown(attempt: AttemptId) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is no attempt {attempt} any more"))
}

fn is_nonce(text: &str) -> bool {
    (16..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
