//! A sign-in, from the browser's first request to its session.

use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use buildit_shared::{
    db::{audit::Entry, provider_sign_ins},
    handshake,
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use super::{Error, FRESH, Oidc, PAUSE, id_token, person, provider::Request};
use crate::{
    App,
    auth::{Client, SessionCookie, SignInCookie},
    error::{ApiError, Result},
    sessions,
};

/// Where the provider sends browsers back to.
const CALLBACK: &str = "/login/oidc/callback";

/// What the provider sends a browser back with.
#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Begins a sign-in that leads to `next`, a path of ours: where to send the browser, and what it keeps meanwhile.
///
/// # Errors
/// `provider_unavailable` or `provider_refused`.
pub(crate) async fn begin(app: &App, oidc: &Oidc, next: &str) -> Result<(SignInCookie, Url)> {
    let provider = oidc.provider(FRESH).await.map_err(|error| told(oidc, &error))?;
    let token = provider_sign_ins::begin(app.pool(), next).await?;
    let address = provider.address(&Request {
        client_id: &oidc.settings.client_id,
        redirect_uri: &app.url(CALLBACK),
        state: &handshake::state(&token),
        nonce: &handshake::nonce(&token),
        challenge: &URL_SAFE_NO_PAD.encode(Sha256::digest(handshake::verifier(&token))),
    });
    Ok((SignInCookie::keep(&token, &app.config.public_url), address))
}

/// Ends a sign-in: the cookie of a new session, and the page of ours that it leads to.
///
/// # Errors
/// `stale_sign_in` for an answer that this browser has not asked for, or asked for too long ago; `sign_in_declined`;
/// `provider_unavailable` or `provider_refused`; and those of [`person::account`].
pub(crate) async fn finish(
    app: &App,
    oidc: &Oidc,
    token: Option<&str>,
    answer: &Answer,
    client: &Client,
) -> Result<(SessionCookie, String)> {
    let token = token.filter(|token| handshake::check_state(token, &answer.state)).ok_or_else(stale)?;
    let next = provider_sign_ins::end(app.pool(), token).await?.ok_or_else(stale)?;
    let Some(code) = &answer.code else { return Err(declined(oidc, answer)) };
    let known = identified(app, oidc, code, token).await.map_err(|error| told(oidc, &error))?;
    let mut tx = app.pool().begin().await?;
    let account = person::account(app, oidc, &mut tx, &known, client).await?;
    let cookie = sessions::open(app, &mut tx, account.id, client).await?;
    let actor = client.actor(None, Some(account.id), account.email.clone());
    let entry = Entry::new("session.opened", &account.email).after(json!({ "issuer": known.issuer }));
    sessions::note(&mut tx, &actor, account.id, entry).await?;
    tx.commit().await?;
    // An invitation was accepted on the way, and leads nowhere any more.
    let next = if account.has_joined && next.starts_with("/join/") { "/".to_owned() } else { next };
    Ok((cookie, next))
}

/// Whom the provider says to have seen.
async fn identified(app: &App, oidc: &Oidc, code: &str, token: &str) -> std::result::Result<id_token::Person, Error> {
    let (settings, verifier, nonce) = (&oidc.settings, handshake::verifier(token), handshake::nonce(token));
    let provider = oidc.provider(FRESH).await?;
    let id_token = provider.exchange(&oidc.http, settings, code, &verifier, &app.url(CALLBACK)).await?;
    match id_token::read(&id_token, &provider, &settings.client_id, &nonce) {
        // Its keys may have changed since it was asked.
        Err(Error::UnknownKey) => {
            let provider = oidc.provider(PAUSE).await?;
            id_token::read(&id_token, &provider, &settings.client_id, &nonce)
        }
        read => read,
    }
}

fn stale() -> ApiError {
    let message = "this sign-in was begun in another browser, or too long ago, or has ended already; begin again";
    ApiError::new(StatusCode::BAD_REQUEST, "stale_sign_in", message)
}

fn declined(oidc: &Oidc, answer: &Answer) -> ApiError {
    let label = oidc.label();
    let (error, description) = (answer.error.as_deref().unwrap_or_default(), answer.error_description.as_deref());
    tracing::warn!(?error, ?description, issuer = oidc.settings.issuer, "the provider ended a sign-in");
    let message = match error {
        "access_denied" => format!("you did not let {label} tell who you are; begin again, or sign in otherwise"),
        _ => {
            format!("{label} ended the sign-in; begin again, and ask this installation's operator if it happens again")
        }
    };
    ApiError::new(StatusCode::FORBIDDEN, "sign_in_declined", message)
}

/// What somebody is told; the cause is the operator's.
fn told(oidc: &Oidc, error: &Error) -> ApiError {
    let label = oidc.label();
    match error {
        Error::Away(_) => {
            tracing::warn!(%error, issuer = oidc.settings.issuer, "nobody can sign in by the provider");
            let message = format!("{label} does not answer at the moment; try again, or sign in with a password");
            ApiError::unavailable("provider_unavailable", message)
        }
        Error::Refused(_) | Error::UnknownKey => {
            tracing::error!(%error, issuer = oidc.settings.issuer, "a sign-in by the provider failed");
            let message =
                format!("signing in by {label} failed; this installation's operator finds the cause in its log");
            ApiError::new(StatusCode::BAD_GATEWAY, "provider_refused", message)
        }
    }
}
