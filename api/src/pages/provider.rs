//! Signing in by a provider of OpenID Connect. What goes wrong is said on the page to sign in at.

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};

use super::{
    account::{Next, login_page, ours},
    error::Result,
};
use crate::{
    App,
    auth::{Client, SignInCookie},
    error::ApiError,
    extract::Query,
    oidc::{self, Answer, Oidc},
};

/// Longest path that a sign-in leads to, in bytes.
const LONGEST: usize = 2000;

/// `GET /login/oidc`: to the provider. A link and no form, since the policy of our pages has forms lead nowhere else.
pub(super) async fn begin(State(app): State<App>, Query(next): Query<Next>) -> Result<Response> {
    let next = Some(ours(&next.next)).filter(|next| next.len() <= LONGEST).unwrap_or("/");
    match oidc::begin(&app, provider(&app)?, next).await {
        Ok((cookie, address)) => Ok((cookie, Redirect::to(address.as_str())).into_response()),
        Err(error) => Ok(failed(&app, next, &error)),
    }
}

/// `GET /login/oidc/callback`: back from the provider.
pub(super) async fn finish(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Result<Response> {
    let token = SignInCookie::token(&headers);
    let forget = SignInCookie::forget(&app.config.public_url);
    match oidc::finish(&app, provider(&app)?, token, &answer, &client).await {
        Ok((session, next)) => Ok((forget, session, Redirect::to(&next)).into_response()),
        // What this browser has begun meanwhile is not ended by the answer to something else.
        Err(error) if error.code() == "stale_sign_in" => Ok(failed(&app, "/", &error)),
        Err(error) => Ok((forget, failed(&app, "/", &error)).into_response()),
    }
}

fn failed(app: &App, next: &str, error: &ApiError) -> Response {
    login_page(app, error.status(), String::new(), next.to_owned(), Some(error.to_string()))
}

fn provider(app: &App) -> std::result::Result<&Oidc, ApiError> {
    app.oidc.as_ref().ok_or_else(|| ApiError::not_found("provider to sign in by", "oidc"))
}
