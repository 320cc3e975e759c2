//! Errors: one JSON shape, `{"error": {"code", "message", "details"}}`, with codes that do not change.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use buildit_shared::{
    db::{SealedError, secrets},
    storage,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// What went wrong, for the caller.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Option<Box<Value>>,
}

/// The body of every answer that is an error.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetails,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetails {
    /// Stable: programs may decide by it.
    code: &'static str,
    /// For people: what is wrong, where, and what to do.
    message: String,
    /// More about it, where there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None }
    }

    pub(crate) fn with(self, details: Value) -> Self {
        Self { details: Some(Box::new(details)), ..self }
    }

    /// Nothing of that name that this caller can see.
    pub(crate) fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        let message = format!("there is no {what} {:?} that you can see", name.to_string());
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// A value in the request that cannot be.
    pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Self {
        let message = format!("{field}: {}", message.into());
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message).with(json!({ "field": field }))
    }

    /// The thing is in a state in which that cannot be done.
    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(crate) fn unauthenticated(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Not at the moment; the caller is to try again.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// It may go by itself.
    pub(crate) fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// Our fault: the cause goes to the log, not to the caller.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong in BuildIt; its log has the cause under this answer's x-request-id",
        )
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Ends a streamed answer in the middle: its reader sees that it broke off.
impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let details = self.details.map(|details| *details);
        let body = ErrorBody { error: ErrorDetails { code: self.code, message: self.message, details } };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"buildit\""));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("900"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        let database = error.as_database_error();
        match database.and_then(|error| error.constraint()) {
            Some("projects_name_is_unique") => {
                return Self::conflict("name_taken", "a project of this name exists; choose another name");
            }
            Some("pipelines_name_is_unique") => {
                return Self::conflict("name_taken", "a pipeline of this name exists; choose another name");
            }
            _ => {}
        }
        // Text that Postgres cannot hold: a NUL character.
        if database.and_then(|error| error.code()).is_some_and(|code| matches!(&*code, "22021" | "22P05")) {
            let message = "a value in this request has a NUL character, which no text has";
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message);
        }
        // Classes 08 (connection), 53 (resources) and 57 (an operator's doing): it comes back by itself.
        let passing = database
            .and_then(|error| error.code())
            .is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)));
        if passing || matches!(error, Io(_) | Tls(_) | Protocol(_) | PoolClosed | PoolTimedOut | WorkerCrashed) {
            tracing::warn!(%error, "the database is not reachable");
            return Self::unavailable("database_unavailable", "the database does not answer at the moment; try again");
        }
        Self::internal(error)
    }
}

impl From<SealedError> for ApiError {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::Database(error) => error.into(),
            error @ SealedError::Vault(_) => Self::internal(error),
        }
    }
}

impl From<secrets::Error> for ApiError {
    fn from(error: secrets::Error) -> Self {
        match error {
            secrets::Error::Database(error) => error.into(),
            error @ secrets::Error::Vault { .. } => Self::internal(error),
        }
    }
}

impl From<storage::Error> for ApiError {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::NotFound(key) => Self::not_found("object", key),
            storage::Error::Unavailable(cause) => {
                tracing::warn!(%cause, "the object store is not reachable");
                let message = "the object store does not answer at the moment; try again";
                Self::unavailable("storage_unavailable", message)
            }
            storage::Error::InvalidKey(error) => Self::new(StatusCode::NOT_FOUND, "not_found", error.to_string()),
            error => Self::internal(error),
        }
    }
}
