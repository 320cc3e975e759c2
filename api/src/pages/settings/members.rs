//! The members of the organization, and those who are invited.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::{
    db::{invitations as invitation_rows, members as member_rows},
    permission::Role,
};
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
    auth::{OrgAdmin, form::Form},
    extract::{Json, Path},
    routes::{
        invitations::{self, Invite},
        members::{self, MemberChanges, MemberPath},
    },
};

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

#[derive(Deserialize)]
pub(in crate::pages) struct RoleForm {
    role: Role,
}

#[derive(Deserialize)]
pub(in crate::pages) struct InviteForm {
    email: String,
    role: Role,
}

/// `GET /settings/members`
pub(in crate::pages) async fn show(State(app): State<App>, caller: Visitor<OrgAdmin>) -> Result<Response> {
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
pub(in crate::pages) async fn invite(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Form(form): Form<InviteForm>,
) -> Result<Response> {
    let invite = Invite { email: form.email, role: form.role };
    let url = invitations::invite(&app, &caller, invite).await?.url;
    render_members(&app, &caller, Some(url)).await
}

/// `POST /settings/members/{user}/role`
pub(in crate::pages) async fn set_role(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<MemberPath>,
    Form(form): Form<RoleForm>,
) -> Result<Response> {
    members::change(state, caller.0, path, Json(MemberChanges { role: form.role })).await?;
    Ok(to("/settings/members"))
}

/// `POST /settings/members/{user}/remove`
pub(in crate::pages) async fn remove_member(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<MemberPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    members::remove(state, caller.0, path).await?;
    Ok(to("/settings/members"))
}

/// `POST /settings/invitations/{invitation}/withdraw`
pub(in crate::pages) async fn withdraw(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<invitations::InvitationPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    invitations::withdraw(state, caller.0, path).await?;
    Ok(to("/settings/members"))
}
