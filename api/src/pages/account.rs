//! Signing in, the first password, signing out.

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    error::Result,
    layout::{Layout, page_with},
    text::part,
};
use crate::{
    App,
    auth::{
        Client, MaybeCaller, MaybePerson, SignedIn,
        form::{Form, OpenForm},
    },
    error::ApiError,
    extract::{Path, Query},
    invitations::{self, NewAccount},
    sessions,
};

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    pub(super) next: String,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    email: String,
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct WelcomePath {
    token: String,
}

#[derive(Deserialize)]
pub(super) struct FirstPassword {
    password: String,
}

#[derive(Deserialize)]
pub(super) struct Join {
    #[serde(default)]
    name: String,
    password: Option<String>,
}

/// A form without fields of its own.
#[derive(Deserialize)]
pub(super) struct Nothing {}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    layout: Layout,
    email: String,
    next: String,
    problem: Option<String>,
    provider: Option<ProviderLink>,
}

/// Where one signs in by a provider.
struct ProviderLink {
    /// What people know it by.
    label: String,
    address: String,
}

impl ProviderLink {
    fn of(app: &App, next: &str) -> Option<Self> {
        let label = app.oidc.as_ref()?.label().to_owned();
        Some(Self { label, address: format!("/login/oidc?next={}", part(next)) })
    }
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct WelcomePage {
    layout: Layout,
    email: String,
    name: String,
    token: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "join.html")]
struct JoinPage {
    layout: Layout,
    organization: String,
    email: String,
    role: &'static str,
    invited_by: String,
    /// They have no account yet.
    is_new: bool,
    token: String,
    problem: Option<String>,
    provider: Option<ProviderLink>,
}

/// A page of ours: anything else would lead people who just signed in to a stranger's.
pub(super) fn ours(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\n', '\r', '\t']);
    if is_path { next } else { "/" }
}

/// `GET /login`
pub(super) async fn login(
    State(app): State<App>,
    MaybeCaller(caller): MaybeCaller,
    Query(next): Query<Next>,
) -> Response {
    let next = ours(&next.next);
    if caller.is_some() {
        return Redirect::to(next).into_response();
    }
    login_page(&app, StatusCode::OK, String::new(), next.to_owned(), None)
}

/// The page to sign in at.
pub(super) fn login_page(
    app: &App,
    status: StatusCode,
    email: String,
    next: String,
    problem: Option<String>,
) -> Response {
    let provider = ProviderLink::of(app, &next);
    page_with(status, &LoginPage { layout: Layout::plain("Sign in"), email, next, problem, provider })
}

/// `POST /login`
pub(super) async fn sign_in(
    State(app): State<App>,
    client: Client,
    OpenForm(given): OpenForm<Credentials>,
) -> Result<Response> {
    let next = ours(&given.next);
    match sessions::sign_in(&app, &given.email, given.password, &client).await {
        Ok(cookie) => Ok((cookie, Redirect::to(next)).into_response()),
        Err(error) => {
            let problem = Some(shown(&error)?);
            Ok(login_page(&app, error.status(), given.email, next.to_owned(), problem))
        }
    }
}

/// What a form says about itself; what is no fault of its fields is a page of its own.
fn shown(error: &ApiError) -> std::result::Result<String, ApiError> {
    match error.status() {
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS | StatusCode::UNPROCESSABLE_ENTITY => {
            Ok(error.to_string())
        }
        status => Err(ApiError::new(status, "failed", error.to_string())),
    }
}

/// `GET /welcome/{token}`
pub(super) async fn welcomed(State(app): State<App>, Path(path): Path<WelcomePath>) -> Result<Response> {
    render_welcome(&app, path.token, None).await
}

async fn render_welcome(app: &App, token: String, problem: Option<String>) -> Result<Response> {
    let found = match sessions::welcomed(app, &token).await {
        Ok(found) => found,
        Err(error) if error.status() == StatusCode::NOT_FOUND => {
            let problem = Some("This link has been used or is too old. Ask for a new one, or sign in.".into());
            return Ok(login_page(app, StatusCode::NOT_FOUND, String::new(), "/".into(), problem));
        }
        Err(error) => return Err(error.into()),
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let layout = Layout::plain("Welcome");
    Ok(page_with(status, &WelcomePage { layout, email: found.email, name: found.name, token, problem }))
}

/// `POST /welcome/{token}`
pub(super) async fn welcome(
    State(app): State<App>,
    Path(path): Path<WelcomePath>,
    client: Client,
    OpenForm(chosen): OpenForm<FirstPassword>,
) -> Result<Response> {
    match sessions::welcome(&app, &path.token, chosen.password, &client).await {
        Ok(cookie) => Ok((cookie, Redirect::to("/")).into_response()),
        Err(error) if error.status() == StatusCode::UNPROCESSABLE_ENTITY => {
            render_welcome(&app, path.token, Some(error.to_string())).await
        }
        Err(error) if error.status() == StatusCode::NOT_FOUND => render_welcome(&app, path.token, None).await,
        Err(error) => Err(error.into()),
    }
}

/// `GET /join/{token}`: what one is invited to.
pub(super) async fn invited(
    State(app): State<App>,
    Path(path): Path<WelcomePath>,
    MaybePerson(person): MaybePerson,
) -> Result<Response> {
    render_invitation(&app, path.token, person.as_ref(), None).await
}

async fn render_invitation(
    app: &App,
    token: String,
    person: Option<&SignedIn>,
    problem: Option<String>,
) -> Result<Response> {
    let (invitation, has_account) = match invitations::read(app, &token).await {
        Ok(found) => found,
        Err(error) if error.status() == StatusCode::NOT_FOUND => {
            let problem = Some("This invitation has been used or withdrawn, or is too old. Ask for a new one.".into());
            return Ok(login_page(app, StatusCode::NOT_FOUND, String::new(), "/".into(), problem));
        }
        Err(error) => return Err(error.into()),
    };
    if person.is_none() && has_account {
        return Ok(Redirect::to(&format!("/login?next=/join/{token}")).into_response());
    }
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let layout = Layout::plain("Join");
    let provider = ProviderLink::of(app, &format!("/join/{token}")).filter(|_| person.is_none());
    Ok(page_with(
        status,
        &JoinPage {
            layout,
            organization: invitation.organization,
            email: invitation.email,
            role: invitation.role.name(),
            invited_by: invitation.invited_by,
            is_new: person.is_none(),
            token,
            problem,
            provider,
        },
    ))
}

/// `POST /join/{token}`
pub(super) async fn join(
    State(app): State<App>,
    Path(path): Path<WelcomePath>,
    MaybePerson(person): MaybePerson,
    client: Client,
    OpenForm(chosen): OpenForm<Join>,
) -> Result<Response> {
    let new = chosen.password.map(|password| NewAccount { name: chosen.name, password });
    match invitations::accept(&app, &path.token, person.as_ref(), new, &client).await {
        Ok(Some(cookie)) => Ok((cookie, Redirect::to("/")).into_response()),
        Ok(None) => Ok(Redirect::to("/").into_response()),
        Err(error) if error.status() == StatusCode::UNPROCESSABLE_ENTITY => {
            render_invitation(&app, path.token, person.as_ref(), Some(error.to_string())).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /logout`
pub(super) async fn sign_out(
    State(app): State<App>,
    person: SignedIn,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    let cookie = sessions::sign_out(&app, &person).await?;
    Ok((cookie, Redirect::to("/login")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_led_nowhere_else_after_signing_in() {
        assert_eq!(ours("/runs/1?a=b#L3"), "/runs/1?a=b#L3");
        for other in
            ["", "https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example"]
        {
            assert_eq!(ours(other), "/", "{other:?}");
        }
    }
}
