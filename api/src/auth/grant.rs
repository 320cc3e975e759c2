//! What a member has been granted on one project, in place of what their role in the organization gives them there.
//!
//! It is the project that the request's path names: by its own id or name, or by that of a run or pipeline of it. Where a path names
//! none, the role alone counts; so a grant reaches no further than its project. A person's own key may no more than its scopes and
//! its owner's role say, whatever has been granted.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use buildit_shared::db::project_grants::{self, Named};
use uuid::Uuid;

use super::{Caller, Who};
use crate::{App, error::Result};

/// The caller with what they may do on the project that the path names.
pub(super) async fn applied(caller: Caller, parts: &mut Parts, app: &App) -> Result<Caller> {
    let has_grants = match &caller.who {
        Who::Key(key, _) => key.has_grants,
        Who::Person(person) => person.has_grants,
    };
    let (true, Some(user)) = (has_grants, caller.user()) else { return Ok(caller) };
    // None where the route has no parameters.
    let Ok(params) = RawPathParams::from_request_parts(parts, app).await else { return Ok(caller) };
    let Some(named) = named(&params) else { return Ok(caller) };
    let Some(role) = project_grants::role(app.pool(), caller.scope.organization, user, named).await? else {
        return Ok(caller);
    };
    let granted = role.permissions().iter().copied().filter(|permission| permission.is_of_project());
    let permissions = match &caller.who {
        Who::Key(key, _) => granted
            .filter(|permission| key.permissions.contains(permission))
            .chain(key.permissions.iter().copied().filter(|permission| !permission.is_of_project()))
            .collect(),
        Who::Person(person) => {
            granted.chain(person.permissions().into_iter().filter(|permission| !permission.is_of_project())).collect()
        }
    };
    Ok(Caller { permissions, ..caller })
}

/// What a path names a project by. A run says more than the project before it, and a pipeline less: behind a project it is a
/// name that is looked up there.
fn named(params: &RawPathParams) -> Option<Named<'_>> {
    let of = |wanted: &str| params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    if let Some(run) = of("run") {
        return Uuid::parse_str(run).ok().map(Named::Run);
    }
    if let Some(project) = of("project") {
        return Some(Named::Project(project));
    }
    of("pipeline").and_then(|id| Uuid::parse_str(id).ok()).map(Named::Pipeline)
}
