//! The last word of a runner that has no folder on its worker's machine.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use buildit_shared::{db::reports, queue::Signal};
use serde_json::Value;

use super::attempts::{AttemptPath, RUNNER_HEADER};
use crate::{
    App,
    auth::Runner,
    error::{ApiError, ErrorBody, Result},
    extract::Json,
};

/// Report how the attempt ended, after its log, outputs and artifacts were stored. The first report counts; the same call
/// again is answered in the same way.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/report", tag = "attempts", operation_id = "report_attempt",
    security(("attempt_token" = [])),
    params(AttemptPath, ("x-buildit-runner" = String, Header, description = "the runner that began it")),
    request_body(content = Object, example = json!({ "attempt_id": "019cab1e-5a00-7000-8000-000000000001" })),
    responses((status = 204, description = "kept"), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn report(
    State(app): State<App>,
    Runner(attempt): Runner,
    headers: HeaderMap,
    Json(report): Json<Value>,
) -> Result<StatusCode> {
    let runner = headers.get(RUNNER_HEADER).and_then(|runner| runner.to_str().ok()).unwrap_or_default();
    if report.get("attempt_id").and_then(Value::as_str) != Some(&attempt.to_string()) {
        return Err(ApiError::invalid("attempt_id", "the report is not about this attempt"));
    }
    if !reports::keep(app.runners(), attempt, runner, &report).await? {
        let message = "this attempt was not begun by this runner, or has ended; its report is not needed";
        return Err(ApiError::conflict("not_your_attempt", message));
    }
    app.notifier.send(Signal::Report(attempt));
    Ok(StatusCode::NO_CONTENT)
}
