//! The runner of an attempt, by the attempt's token.

use axum::{extract::FromRequestParts, http::request::Parts};
use buildit_shared::ids::AttemptId;
use serde::Deserialize;
use uuid::Uuid;

use super::bearer;
use crate::{
    App,
    error::{ApiError, Result},
    extract::Path,
};

/// The runner of this attempt.
pub(crate) struct Runner(pub(crate) AttemptId);

#[derive(Deserialize)]
struct OfAttempt {
    attempt: Uuid,
}

impl FromRequestParts<App> for Runner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Path(OfAttempt { attempt }) = Path::from_request_parts(parts, app).await?;
        let attempt = AttemptId::from(attempt);
        let token = bearer(parts).filter(|token| app.config.attempt_tokens.check(attempt, token));
        token.map(|_| Self(attempt)).ok_or_else(|| {
            ApiError::unauthenticated("this is for the runner of the attempt alone, which sends its token `bia_…`")
        })
    }
}
