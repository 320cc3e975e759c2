//! Forms of our pages. Besides coming from our own pages, a form of somebody who is signed in shows the session's token in
//! its field `csrf`.

use axum::{
    extract::{FromRequest, RawForm, Request},
    http::StatusCode,
    response::IntoResponse,
};
use buildit_shared::csrf;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::{cookie, origin};
use crate::{
    App,
    error::{ApiError, Result},
};

/// The name of the field.
pub(crate) const FIELD: &str = "csrf";

/// A form of somebody who is signed in, without its field `csrf`. Take [`super::Allowed`] or [`super::SignedIn`] as well: this
/// looks at the form alone.
pub(crate) struct Form<T>(pub(crate) T);

/// A form of somebody who is not: to sign in, or to choose a first password.
pub(crate) struct OpenForm<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Form<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        origin::require_ours(request.headers(), &app.config.public_url)?;
        let session = cookie::token(request.headers()).map(str::to_owned);
        let fields = fields(request, app).await?;
        let shown = fields.iter().find(|(name, _)| name == FIELD).map_or("", |(_, value)| value);
        if !session.is_some_and(|session| csrf::check(&session, shown)) {
            let message = "this form is of another session than yours; load its page again";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "stale_form", message));
        }
        read(fields).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<App> for OpenForm<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        origin::require_ours(request.headers(), &app.config.public_url)?;
        read(fields(request, app).await?).map(Self)
    }
}

async fn fields(request: Request, app: &App) -> Result<Vec<(String, String)>> {
    let RawForm(bytes) = RawForm::from_request(request, app).await.map_err(|rejection| {
        let status = rejection.into_response().status();
        ApiError::new(status, "invalid_form", "this form cannot be read")
    })?;
    Ok(form_urlencoded::parse(&bytes).into_owned().collect())
}

fn read<T: DeserializeOwned>(fields: Vec<(String, String)>) -> Result<T> {
    let fields = fields.iter().filter(|(name, _)| name != FIELD);
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    serde_urlencoded::from_str(&text).map_err(|error| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", format!("this form is not right: {error}"))
    })
}
