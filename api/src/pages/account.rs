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
    layout::{Layout, page, page_with},
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
    next: String,
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
}

/// A page of ours: anything else would lead people who just signed in to a stranger's.
fn ours(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\n', '\r', '\t']);
    if is_path { next } else { "/" }
}

/// `GET /login`
pub(super) async fn login(MaybeCaller(caller): MaybeCaller, Query(next): Query<Next>) -> Response {
    let next = ours(&next.next);
    if caller.is_some() {
        return Redirect::to(next).into_response();
    }
    let layout = Layout::plain("Sign in");
    page(&LoginPage { layout, email: String::new(), next: next.to_owned(), problem: None })
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
            let layout = Layout::plain("Sign in");
            let page = LoginPage { layout, email: given.email, next: next.to_owned(), problem };
            Ok(page_with(error.status(), &page))
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
            let layout = Layout::plain("Sign in");
            let page = LoginPage { layout, email: String::new(), next: "/".into(), problem };
            return Ok(page_with(StatusCode::NOT_FOUND, &page));
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
            let layout = Layout::plain("Sign in");
            let problem = Some("This invitation has been used or withdrawn, or is too old. Ask for a new one.".into());
            let page = LoginPage { layout, email: String::new(), next: "/".into(), problem };
            return Ok(page_with(StatusCode::NOT_FOUND, &page));
        }
        Err(error) => return Err(error.into()),
    };
    if person.is_none() && has_account {
        return Ok(Redirect::to(&format!("/login?next=/join/{token}")).into_response());
    }
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let layout = Layout::plain("Join");
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
