//! Who asks, and whether they may. A handler that takes [`Allowed<P>`] runs only for a caller who has `P`; one that takes
//! [`Runner`] only for the runner of the attempt in its path.

use std::{marker::PhantomData, ops::Deref};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use buildit_shared::{
    db::{Scope, api_keys, api_keys::Principal},
    ids::AttemptId,
    permission::Permission,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    App,
    error::{ApiError, Result},
    extract::Path,
};

/// Whoever sent the request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    principal: Principal,
}

/// A caller who has the permission `P`.
pub(crate) struct Allowed<P>(Caller, PhantomData<P>);

/// A permission as a type, so that a handler's signature names the one it asks for.
pub(crate) trait Permit: Send {
    const PERMISSION: Permission;
}

macro_rules! permits {
    ($($name:ident),+) => {$(
        pub(crate) struct $name;
        impl Permit for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )+};
}

permits!(ProjectRead, ProjectWrite, RunTrigger, OrgAdmin, FleetAdmin);

impl<P> Deref for Allowed<P> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl<P: Permit> FromRequestParts<App> for Allowed<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            let message = "this needs an API key: send it in the header `Authorization: Bearer bi_…`";
            return Err(ApiError::unauthenticated(message));
        }
        let key = bearer(parts)
            .ok_or_else(|| ApiError::unauthenticated("the Authorization header is not of the form `Bearer bi_…`"))?;
        let principal = api_keys::authenticate(app.pool(), key)
            .await?
            .ok_or_else(|| ApiError::unauthenticated("this API key is unknown, revoked or expired"))?;
        let caller = Caller { principal };
        caller.require(P::PERMISSION)?;
        Ok(Self(caller, PhantomData))
    }
}

/// The runner of this attempt, by the attempt's token.
pub(crate) struct Runner(pub(crate) AttemptId);

#[derive(Deserialize)]
struct OfAttempt {
    attempt: Uuid,
}

impl FromRequestParts<App> for Runner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Path(OfAttempt { attempt }) = Path::from_request_parts(parts, app).await?;
        let attempt = AttemptId::from(attempt);
        let token = bearer(parts).filter(|token| app.config.attempt_tokens.check(attempt, token));
        token.map(|_| Self(attempt)).ok_or_else(|| {
            ApiError::unauthenticated("this is for the runner of the attempt alone, which sends its token `bia_…`")
        })
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim())
}

impl Caller {
    /// The rows this caller may see.
    pub(crate) fn scope(&self) -> Scope {
        Scope { organization: self.principal.organization_id, project: self.principal.project_id }
    }

    /// Who that is, for people.
    pub(crate) fn name(&self) -> String {
        format!("key {}", self.principal.name)
    }

    pub(crate) fn has(&self, permission: Permission) -> bool {
        self.principal.permissions.contains(&permission)
    }

    fn require(&self, permission: Permission) -> Result<()> {
        if self.has(permission) {
            return Ok(());
        }
        Err(ApiError::forbidden(format!("this API key lacks the permission `{}`", permission.name())))
    }

    /// Refuses a key that is bound to one project, where something is about the whole organization.
    pub(crate) fn require_whole_organization(&self) -> Result<()> {
        match self.principal.project_id {
            None => Ok(()),
            Some(_) => Err(ApiError::forbidden("this API key is bound to one project and can do this for none other")),
        }
    }
}
