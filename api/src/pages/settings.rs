//! Settings: one's own account, and the organization's members, keys and secrets.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::{
    db::{
        api_keys, invitations as invitation_rows, members as member_rows,
        secrets::{self as secret_rows, Owner},
        sessions as session_rows,
    },
    permission::{Permission, Role},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    account::Nothing,
    error::{Result, Visitor},
    layout::{Layout, page},
    text::When,
};
use crate::{
    App,
    auth::{Caller, Client, OrgAdmin, ProjectRead, SecretsWrite, form::Form},
    extract::{Json, Path},
    routes::{
        invitations::{self, Invite},
        keys::{self, CreateApiKey},
        members::{self, MemberChanges, MemberPath},
        projects::ProjectPath,
        secrets,
    },
    sessions,
};

/// The most rows of one kind that a page shows.
const MOST: i64 = 500;

/// Which settings there are for the one who looks.
struct Tabs {
    now: &'static str,
    is_admin: bool,
    has_secrets: bool,
}

impl Tabs {
    fn of(caller: &Caller, now: &'static str) -> Self {
        let is_whole = caller.scope().project.is_none();
        Self {
            now,
            is_admin: is_whole && caller.has(Permission::OrgAdmin),
            has_secrets: is_whole && caller.has(Permission::SecretsWrite),
        }
    }

    fn is(&self, tab: &str) -> bool {
        self.now == tab
    }
}

#[derive(Template)]
#[template(path = "settings_account.html")]
struct AccountPage {
    layout: Layout,
    tabs: Tabs,
    name: String,
    email: String,
    organization: String,
    role: &'static str,
    sessions: Vec<SessionRow>,
    problem: Option<String>,
    is_changed: bool,
}

struct SessionRow {
    id: Uuid,
    browser: String,
    address: String,
    used: When,
    began: When,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "settings_members.html")]
struct MembersPage {
    layout: Layout,
    tabs: Tabs,
    members: Vec<MemberRow>,
    invitations: Vec<InvitationRow>,
    roles: [&'static str; 4],
    /// What was just made, shown once.
    link: Option<String>,
}

struct MemberRow {
    id: Uuid,
    email: String,
    name: String,
    role: &'static str,
    since: When,
}

struct InvitationRow {
    id: Uuid,
    email: String,
    role: &'static str,
    by: String,
    until: String,
}

#[derive(Template)]
#[template(path = "settings_keys.html")]
struct KeysPage {
    layout: Layout,
    tabs: Tabs,
    keys: Vec<KeyRow>,
    permissions: Vec<&'static str>,
    /// The key that was just made, shown once.
    made: Option<String>,
}

struct KeyRow {
    id: Uuid,
    name: String,
    prefix: String,
    permissions: String,
    made: When,
    used: Option<When>,
    is_revoked: bool,
}

#[derive(Template)]
#[template(path = "settings_secrets.html")]
struct SecretsPage {
    layout: Layout,
    tabs: Tabs,
    /// The project whose secrets they are; the organization's without one.
    project: Option<String>,
    address: String,
    secrets: Vec<SecretRow>,
}

struct SecretRow {
    name: String,
    by: String,
    at: When,
}

#[derive(Deserialize)]
pub(super) struct PasswordForm {
    current: String,
    new: String,
}

#[derive(Deserialize)]
pub(super) struct RoleForm {
    role: Role,
}

#[derive(Deserialize)]
pub(super) struct InviteForm {
    email: String,
    role: Role,
}

#[derive(Deserialize)]
pub(super) struct SecretForm {
    name: String,
    value: String,
}

#[derive(Deserialize)]
pub(super) struct NameForm {
    name: String,
}

fn to(address: &str) -> Response {
    Redirect::to(address).into_response()
}

/// `GET /settings`
pub(super) async fn account(State(app): State<App>, caller: Visitor<ProjectRead>) -> Result<Response> {
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
    let organization = person.organization.as_ref();
    Ok(page(&AccountPage {
        layout: Layout::of(caller, "settings", "Account"),
        tabs: Tabs::of(caller, "account"),
        name: person.name.clone(),
        email: person.email.clone(),
        organization: organization.map(|found| found.name.clone()).unwrap_or_default(),
        role: organization.map_or("", |found| found.role.name()),
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
pub(super) async fn password(
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
pub(super) struct SessionPath {
    session: Uuid,
}

/// `POST /settings/sessions/{session}/end`
pub(super) async fn end_session(
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

/// `GET /settings/members`
pub(super) async fn members(State(app): State<App>, caller: Visitor<OrgAdmin>) -> Result<Response> {
    render_members(&app, &caller, None).await
}

async fn render_members(app: &App, caller: &Visitor<OrgAdmin>, link: Option<String>) -> Result<Response> {
    caller.require_whole_organization()?;
    let organization = caller.scope().organization;
    let found = member_rows::list(app.pool(), organization, None, MOST).await?;
    let invited = invitation_rows::list(app.pool(), organization, None, MOST).await?;
    Ok(page(&MembersPage {
        layout: Layout::of(caller, "settings", "Members"),
        tabs: Tabs::of(caller, "members"),
        members: found
            .into_iter()
            .map(|member| MemberRow {
                id: member.user_id.uuid(),
                email: member.email,
                name: member.name,
                role: member.role.name(),
                since: When::of(member.created_at),
            })
            .collect(),
        invitations: invited
            .into_iter()
            .map(|invitation| InvitationRow {
                id: invitation.id.uuid(),
                email: invitation.email,
                role: invitation.role.name(),
                by: invitation.invited_by,
                until: invitation.expires_at.to_jiff().strftime("%Y-%m-%d").to_string(),
            })
            .collect(),
        roles: Role::ALL.map(Role::name),
        link,
    }))
}

/// `POST /settings/members`
pub(super) async fn invite(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Form(form): Form<InviteForm>,
) -> Result<Response> {
    let invite = Invite { email: form.email, role: form.role };
    let url = invitations::invite(&app, &caller, invite).await?.url;
    render_members(&app, &caller, Some(url)).await
}

/// `POST /settings/members/{user}/role`
pub(super) async fn set_role(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<MemberPath>,
    Form(form): Form<RoleForm>,
) -> Result<Response> {
    members::change(state, caller.0, path, Json(MemberChanges { role: form.role })).await?;
    Ok(to("/settings/members"))
}

/// `POST /settings/members/{user}/remove`
pub(super) async fn remove_member(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<MemberPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    members::remove(state, caller.0, path).await?;
    Ok(to("/settings/members"))
}

/// `POST /settings/invitations/{invitation}/withdraw`
pub(super) async fn withdraw(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<invitations::InvitationPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    invitations::withdraw(state, caller.0, path).await?;
    Ok(to("/settings/members"))
}

/// `GET /settings/keys`
pub(super) async fn keys(State(app): State<App>, caller: Visitor<OrgAdmin>) -> Result<Response> {
    render_keys(&app, &caller, None).await
}

async fn render_keys(app: &App, caller: &Visitor<OrgAdmin>, made: Option<String>) -> Result<Response> {
    let found = api_keys::list(app.pool(), caller.scope(), None, None, MOST).await?;
    Ok(page(&KeysPage {
        layout: Layout::of(caller, "settings", "API keys"),
        tabs: Tabs::of(caller, "keys"),
        keys: found
            .into_iter()
            .map(|key| KeyRow {
                id: key.id.uuid(),
                name: key.name,
                prefix: key.prefix,
                permissions: key.permissions.join(", "),
                made: When::of(key.created_at),
                used: key.last_used_at.map(When::of),
                is_revoked: key.revoked_at.is_some(),
            })
            .collect(),
        permissions: Permission::ALL.into_iter().filter(|one| caller.has(*one)).map(Permission::name).collect(),
        made,
    }))
}

/// `POST /settings/keys`
pub(super) async fn create_key(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response> {
    let all = |wanted: &str| {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let new = CreateApiKey {
        name: all("name").pop().unwrap_or_default(),
        permissions: all("permission"),
        project: all("project").pop().filter(|name| !name.trim().is_empty()),
        expires_at: None,
    };
    let token = keys::make(&state.0, &caller, new).await?.token;
    render_keys(&state.0, &caller, Some(token)).await
}

/// `POST /settings/keys/{key}/revoke`
pub(super) async fn revoke_key(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<keys::KeyPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    keys::revoke(state, caller.0, path).await?;
    Ok(to("/settings/keys"))
}

/// `GET /settings/secrets`
pub(super) async fn secrets(State(app): State<App>, caller: Visitor<SecretsWrite>) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    render_secrets(&app, &caller, owner, None).await
}

/// `GET /projects/{project}/secrets`
pub(super) async fn project_secrets(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    let owner = secrets::of_project(&app, &caller, &path.project).await?;
    render_secrets(&app, &caller, owner, Some(path.project)).await
}

fn secrets_address(project: Option<&str>) -> String {
    match project {
        Some(project) => format!("/projects/{}/secrets", super::text::part(project)),
        None => "/settings/secrets".into(),
    }
}

async fn render_secrets(
    app: &App,
    caller: &Visitor<SecretsWrite>,
    owner: Owner,
    project: Option<String>,
) -> Result<Response> {
    let found = secret_rows::list(app.pool(), owner, None, MOST).await?;
    let section = if project.is_some() { "projects" } else { "settings" };
    Ok(page(&SecretsPage {
        layout: Layout::of(caller, section, "Secrets"),
        tabs: Tabs::of(caller, "secrets"),
        address: secrets_address(project.as_deref()),
        project,
        secrets: found
            .into_iter()
            .map(|secret| SecretRow { name: secret.name, by: secret.set_by, at: When::of(secret.set_at) })
            .collect(),
    }))
}

/// `POST /settings/secrets`
pub(super) async fn set_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Form(form): Form<SecretForm>,
) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    secrets::put(&app, &caller, owner, form.name.trim(), &form.value).await?;
    Ok(to(&secrets_address(None)))
}

/// `POST /projects/{project}/secrets`
pub(super) async fn set_project_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<SecretForm>,
) -> Result<Response> {
    let owner = secrets::of_project(&app, &caller, &path.project).await?;
    secrets::put(&app, &caller, owner, form.name.trim(), &form.value).await?;
    Ok(to(&secrets_address(Some(&path.project))))
}

/// `POST /settings/secrets/delete`
pub(super) async fn delete_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Form(form): Form<NameForm>,
) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    secrets::remove(&app, &caller, owner, &form.name).await?;
    Ok(to(&secrets_address(None)))
}

/// `POST /projects/{project}/secrets/delete`
pub(super) async fn delete_project_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<NameForm>,
) -> Result<Response> {
    let owner = secrets::of_project(&app, &caller, &path.project).await?;
    secrets::remove(&app, &caller, owner, &form.name).await?;
    Ok(to(&secrets_address(Some(&path.project))))
}
