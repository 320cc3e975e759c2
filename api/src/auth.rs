//! Who asks, and whether they may. A handler that takes [`Allowed<P>`] runs only for a caller who has `P`.

use std::{marker::PhantomData, ops::Deref};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use buildit_shared::{
    db::{Scope, api_keys, api_keys::Principal},
    permission::Permission,
};

use crate::{
    App,
    error::{ApiError, Result},
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
        let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            ApiError::unauthenticated("this needs an API key: send it in the header `Authorization: Bearer bi_…`")
        })?;
        let key = header
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim())
            .ok_or_else(|| ApiError::unauthenticated("the Authorization header is not of the form `Bearer bi_…`"))?;
        let principal = api_keys::authenticate(app.pool(), key)
            .await?
            .ok_or_else(|| ApiError::unauthenticated("this API key is unknown, revoked or expired"))?;
        let caller = Caller { principal };
        caller.require(P::PERMISSION)?;
        Ok(Self(caller, PhantomData))
    }
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
