//! Around every request: its id, a line in the log, its time, and an answer even when a handler panics.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;
use uuid::Uuid;

use crate::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id, keeps the caller's if it is a sensible one, and says how the request went.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| id.len() <= 100 && id.to_str().is_ok_and(|id| id.bytes().all(|byte| byte.is_ascii_graphic())))
        .cloned()
        .or_else(|| HeaderValue::from_str(&Uuid::now_v7().to_string()).ok());
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    if let Some(id) = &id {
        request.headers_mut().insert(REQUEST_ID, id.clone());
    }
    // The route, not the path: paths have no bound, and a link's query is a secret.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let span = tracing::info_span!("request", id = shown, %method, route);
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let (took, status) = (began.elapsed(), response.status().as_u16());
    span.in_scope(|| tracing::debug!(status, ms = took.as_secs_f64() * 1e3, "answered"));
    metrics::histogram!(
        "buildit_http_request_seconds",
        "method" => method.to_string(), "route" => route, "status" => status.to_string()
    )
    .record(took.as_secs_f64());
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// What a request may take from its head to the head of its answer, the reading of its body included.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Gives a request up that takes too long: its client sends its body too slowly, or the database is stuck.
pub(crate) async fn limit(request: Request, next: Next) -> Response {
    limit_to(REQUEST_LIMIT, next.run(request)).await
}

async fn limit_to(limit: Duration, answer: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(limit, answer).await {
        Ok(response) => response,
        Err(_) => {
            let message =
                format!("this request was not complete, or could not be answered, within {limit:?}; try again");
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message).into_response()
        }
    }
}

/// The answer when a handler panicked.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    ApiError::internal(format!("a handler panicked: {message}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_answered_all_the_same() {
        let response = limit_to(Duration::from_millis(10), std::future::pending()).await;
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "request_timeout");
    }

    #[tokio::test]
    async fn one_in_time_is_left_alone() {
        let response = limit_to(REQUEST_LIMIT, std::future::ready(StatusCode::OK.into_response())).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
