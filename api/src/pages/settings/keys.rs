//! API keys of the organization.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::{db::api_keys, permission::Permission};
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
    extract::Path,
    routes::keys::{self, CreateApiKey},
};

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

/// `GET /settings/keys`
pub(in crate::pages) async fn show(State(app): State<App>, caller: Visitor<OrgAdmin>) -> Result<Response> {
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
pub(in crate::pages) async fn create_key(
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
pub(in crate::pages) async fn revoke_key(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<keys::KeyPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    keys::revoke(state, caller.0, path).await?;
    Ok(to("/settings/keys"))
}
