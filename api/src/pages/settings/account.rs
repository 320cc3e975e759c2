//! One's own account: the organizations one is in, the password, and where one is signed in.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::db::{identities as identity_rows, organizations, sessions as session_rows, users};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    super::{
        account::Nothing,
        error::{Result, Visitor},
        layout::{Layout, page},
        text::When,
    },
    MOST, Tabs, to,
};
use crate::{
    App,
    auth::{Client, ProjectRead, form::Form},
    extract::Path,
    routes::identities::{self, IdentityPath},
    sessions,
};

#[derive(Template)]
#[template(path = "settings_account.html")]
struct AccountPage {
    layout: Layout,
    tabs: Tabs,
    name: String,
    email: String,
    organizations: Vec<OrganizationRow>,
    /// Who they are at providers.
    identities: Vec<IdentityRow>,
    has_password: bool,
    sessions: Vec<SessionRow>,
    problem: Option<String>,
    is_changed: bool,
}

struct OrganizationRow {
    id: Uuid,
    name: String,
    role: &'static str,
    /// The one that the session looks at.
    is_current: bool,
}

struct IdentityRow {
    id: Uuid,
    issuer: String,
    email: String,
    used: When,
    since: When,
}

struct SessionRow {
    id: Uuid,
    browser: String,
    address: String,
    used: When,
    began: When,
    is_current: bool,
}

#[derive(Deserialize)]
pub(in crate::pages) struct PasswordForm {
    current: String,
    new: String,
}

#[derive(Deserialize)]
pub(in crate::pages) struct OrganizationForm {
    /// Its id.
    organization: String,
}

/// `GET /settings`
pub(in crate::pages) async fn show(State(app): State<App>, caller: Visitor<ProjectRead>) -> Result<Response> {
    render_account(&app, &caller, None, false).await
}

async fn render_account(
    app: &App,
    caller: &Visitor<ProjectRead>,
    problem: Option<String>,
    is_changed: bool,
) -> Result<Response> {
    let Some(person) = caller.person() else { return Ok(to("/settings/keys")) };
    let found = session_rows::list(app.pool(), person.user_id, None, MOST).await?;
    let identities = identity_rows::list(app.pool(), person.user_id, None, MOST).await?;
    let current = person.organization.as_ref().map(|organization| organization.id);
    let organizations = organizations::of_user(app.pool(), person.user_id).await?;
    Ok(page(&AccountPage {
        layout: Layout::of(caller, "settings", "Account"),
        tabs: Tabs::of(caller, "account"),
        name: person.name.clone(),
        email: person.email.clone(),
        organizations: organizations
            .into_iter()
            .map(|organization| OrganizationRow {
                id: organization.id.uuid(),
                is_current: Some(organization.id) == current,
                role: organization.role.name(),
                name: organization.name,
            })
            .collect(),
        identities: identities
            .into_iter()
            .map(|identity| IdentityRow {
                id: identity.id.uuid(),
                issuer: identity.issuer,
                email: identity.email,
                used: When::of(identity.last_used_at),
                since: When::of(identity.created_at),
            })
            .collect(),
        has_password: users::has_password(app.pool(), person.user_id).await?,
        sessions: found
            .into_iter()
            .map(|session| SessionRow {
                id: session.id.uuid(),
                is_current: session.id == person.id,
                browser: session.user_agent,
                address: session.address.unwrap_or_default(),
                used: When::of(session.last_used_at),
                began: When::of(session.created_at),
            })
            .collect(),
        problem,
        is_changed,
    }))
}

/// `POST /settings/password`
pub(in crate::pages) async fn password(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    client: Client,
    Form(form): Form<PasswordForm>,
) -> Result<Response> {
    let Some(person) = caller.person() else { return Ok(to("/settings")) };
    let changed = sessions::change_password(&app, person, form.current, form.new, &client).await;
    match changed {
        Ok(()) => render_account(&app, &caller, None, true).await,
        Err(error) if error.status().is_client_error() => {
            render_account(&app, &caller, Some(error.to_string()), false).await
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
pub(in crate::pages) struct SessionPath {
    session: Uuid,
}

/// `POST /settings/sessions/{session}/end`
pub(in crate::pages) async fn end_session(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<SessionPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    if let Some(person) = caller.person() {
        session_rows::revoke(app.pool(), person.user_id, path.session.into()).await?;
    }
    Ok(to("/settings"))
}

/// `POST /settings/identities/{identity}/unlink`
pub(in crate::pages) async fn unlink(
    state: State<App>,
    caller: Visitor<ProjectRead>,
    path: Path<IdentityPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    if let Some(person) = caller.person() {
        identities::unlink(state, person.clone(), path).await?;
    }
    Ok(to("/settings"))
}

/// `POST /settings/organization`: look at another one of one's own.
pub(in crate::pages) async fn switch(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Form(form): Form<OrganizationForm>,
) -> Result<Response> {
    if let Some(person) = caller.person() {
        sessions::switch(&app, person, &form.organization).await?;
    }
    Ok(to("/"))
}
