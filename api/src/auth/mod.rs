//! Who asks, and whether they may.
//!
//! A handler that takes [`Allowed<P>`] runs only for a caller who has `P`: an API key, or a person by the session cookie.
//! One that takes [`SignedIn`] runs only for a person, whatever they may do; one that takes [`Runner`] only for the runner
//! of the attempt in its path. [`MaybeCaller`] and [`MaybePerson`] let
//! everybody in and tell who it is.
//!
//! What a member may do on the project that a path names is decided by their grant there, if they have one: see [`grant`].
//!
//! A cookie is sent by a browser on its own account, so whatever changes something by a cookie must come from our own
//! pages: see [`origin`] and [`form`].

mod client;
mod cookie;
pub(crate) mod form;
mod grant;
pub(crate) mod origin;
mod runner;

use std::{marker::PhantomData, ops::Deref};

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
};
use buildit_shared::{
    csrf,
    db::{
        Scope,
        api_keys::{self, Principal},
        audit::Actor,
        sessions::{self, Session},
    },
    ids::UserId,
    permission::{Permission, Role},
};

use crate::{
    App,
    error::{ApiError, Result},
};

pub(crate) use client::{Client, Peer};
pub(crate) use cookie::{SessionCookie, SignInCookie};
pub(crate) use runner::Runner;

/// Whoever sent the request, in the organization that they look at.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    who: Who,
    scope: Scope,
    permissions: Vec<Permission>,
    actor: Actor,
}

/// Whoever sent the request.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// A program.
    Key(Principal, Actor),
    /// A person.
    Person(SignedIn),
}

/// A person, by the session cookie.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    session: Session,
    csrf: String,
    actor: Actor,
}

/// The caller, if there is one.
pub(crate) struct MaybeCaller(pub(crate) Option<Caller>);

/// The person, if somebody is signed in.
pub(crate) struct MaybePerson(pub(crate) Option<SignedIn>);

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

permits!(ProjectRead, ProjectWrite, RunTrigger, SecretsWrite, OrgAdmin, FleetAdmin);

impl<P> Deref for Allowed<P> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl Deref for SignedIn {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl<P: Permit> FromRequestParts<App> for Allowed<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let MaybeCaller(caller) = MaybeCaller::from_request_parts(parts, app).await?;
        let caller = grant::applied(caller.ok_or_else(|| nobody(parts))?, parts, app).await?;
        caller.require(P::PERMISSION)?;
        Ok(Self(caller, PhantomData))
    }
}

impl FromRequestParts<App> for MaybeCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        Ok(Self(identify(parts, app).await?.map(Caller::new).transpose()?))
    }
}

impl FromRequestParts<App> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        identify(parts, app).await?.ok_or_else(|| nobody(parts))
    }
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        match Who::from_request_parts(parts, app).await? {
            Who::Person(person) => Ok(person),
            Who::Key(..) => Err(ApiError::forbidden("this is about a person who signed in; an API key is none")),
        }
    }
}

impl FromRequestParts<App> for MaybePerson {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        Ok(Self(match identify(parts, app).await? {
            Some(Who::Person(person)) => Some(person),
            Some(Who::Key(..)) | None => None,
        }))
    }
}

/// Who sent the request: found out once for each.
async fn identify(parts: &mut Parts, app: &App) -> Result<Option<Who>> {
    if let Some(who) = parts.extensions.get::<Who>() {
        return Ok(Some(who.clone()));
    }
    let client = Client::of(parts, app);
    let who = if parts.headers.contains_key(header::AUTHORIZATION) {
        let key = bearer(parts)
            .ok_or_else(|| ApiError::unauthenticated("the Authorization header is not of the form `Bearer bi_…`"))?;
        let principal = api_keys::authenticate(app.pool(), key)
            .await?
            .ok_or_else(|| ApiError::unauthenticated("this API key is unknown, revoked or expired"))?;
        let actor = client.actor(Some(principal.organization_id), principal.user_id, format!("key {}", principal.name));
        let actor = Actor { key: Some(principal.key_id), ..actor };
        Who::Key(principal, actor)
    } else {
        let Some(token) = cookie::token(&parts.headers) else { return Ok(None) };
        let Some(session) = sessions::authenticate(app.pool(), token).await? else { return Ok(None) };
        let csrf = csrf::token(token);
        if !parts.method.is_safe() {
            origin::require_ours(&parts.headers, &app.config.public_url)?;
        }
        let organization = session.organization.as_ref().map(|organization| organization.id);
        let actor = client.actor(organization, Some(session.user_id), session.email.clone());
        Who::Person(SignedIn { session, csrf, actor })
    };
    parts.extensions.insert(who.clone());
    Ok(Some(who))
}

fn nobody(parts: &Parts) -> ApiError {
    ApiError::unauthenticated(match cookie::token(&parts.headers) {
        Some(_) => "your session has ended; sign in again",
        None => "sign in, or send an API key in the header `Authorization: Bearer bi_…`",
    })
}

fn bearer(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim())
}

impl SignedIn {
    /// What each form of this session shows in its field `csrf`, for [`form::Form`].
    pub(crate) fn csrf_token(&self) -> &str {
        &self.csrf
    }

    /// Who that is, for the audit log.
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// This person as a caller in the organization that the session looks at.
    ///
    /// # Errors
    /// `no_organization` for a member of none.
    pub(crate) fn caller(&self) -> Result<Caller> {
        Caller::new(Who::Person(self.clone()))
    }

    /// What this person may do in the organization that the session looks at.
    pub(crate) fn permissions(&self) -> Vec<Permission> {
        let by_role = self.organization.iter().flat_map(|organization| organization.role.permissions()).copied();
        by_role.chain(self.operator.then_some(Permission::FleetAdmin)).collect()
    }
}

impl Caller {
    fn new(who: Who) -> Result<Self> {
        let (scope, permissions, actor) = match &who {
            Who::Key(key, actor) => {
                let scope = Scope { organization: key.organization_id, project: key.project_id };
                (scope, key.permissions.clone(), actor.clone())
            }
            Who::Person(person) => {
                let organization = person.organization.as_ref().ok_or_else(|| {
                    let message = "you are a member of no organization; ask an administrator of one to invite you";
                    ApiError::new(StatusCode::FORBIDDEN, "no_organization", message)
                })?;
                (Scope::of(organization.id), person.permissions(), person.actor.clone())
            }
        };
        Ok(Self { who, scope, permissions, actor })
    }

    /// The rows this caller may see.
    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// Who that is, for people.
    pub(crate) fn name(&self) -> String {
        self.actor.name.clone()
    }

    /// Who that is, for the audit log.
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Whether it is an owner of the organization. Keys that manage it count as administrators.
    pub(crate) fn is_owner(&self) -> bool {
        let organization = self.person().and_then(|person| person.organization.as_ref());
        organization.is_some_and(|organization| organization.role == Role::Owner)
    }

    /// The person, if it is one.
    pub(crate) fn person(&self) -> Option<&SignedIn> {
        match &self.who {
            Who::Key(..) => None,
            Who::Person(person) => Some(person),
        }
    }

    /// The account of the person, or of the one whose own key it is.
    pub(crate) fn user(&self) -> Option<UserId> {
        self.actor.user
    }

    /// Whether it may do that: on the project that the path names, else in the organization.
    pub(crate) fn has(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Refuses who may do that at most on single projects, by a grant.
    pub(crate) fn require_everywhere(&self, permission: Permission) -> Result<()> {
        let has = match &self.who {
            Who::Key(key, _) => key.permissions.contains(&permission),
            Who::Person(person) => person.permissions().contains(&permission),
        };
        if has { Ok(()) } else { Err(self.lacks(permission)) }
    }

    fn require(&self, permission: Permission) -> Result<()> {
        if self.has(permission) { Ok(()) } else { Err(self.lacks(permission)) }
    }

    fn lacks(&self, permission: Permission) -> ApiError {
        let permission = permission.name();
        ApiError::forbidden(match &self.who {
            Who::Key(..) => format!("this API key lacks the permission `{permission}`"),
            Who::Person(_) => format!("your role in this organization lacks the permission `{permission}`"),
        })
    }

    /// Refuses a key that is bound to one project, where something is about the whole organization.
    pub(crate) fn require_whole_organization(&self) -> Result<()> {
        match self.scope.project {
            None => Ok(()),
            Some(_) => Err(ApiError::forbidden("this API key is bound to one project and can do this for none other")),
        }
    }
}
