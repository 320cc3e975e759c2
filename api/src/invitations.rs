//! How people join an organization: by a link, for JSON and for pages alike.

use axum::http::StatusCode;
use buildit_shared::db::{
    audit::{self, Entry},
    invitations::{self, Invitation},
    organizations, users,
};
use serde_json::json;

use crate::{
    App,
    auth::{Client, SessionCookie, SignedIn},
    error::{ApiError, Result},
    sessions,
};

/// The account that an invited person makes who has none.
#[derive(Debug)]
pub(crate) struct NewAccount {
    /// What they are called.
    pub(crate) name: String,
    /// What they chose.
    pub(crate) password: String,
}

/// The invitation with this token, and whether the one it is for has an account.
///
/// # Errors
/// `not_found` when it is unknown, used, withdrawn or older than a week.
pub(crate) async fn read(app: &App, token: &str) -> Result<(Invitation, bool)> {
    let invitation = invitations::find(app.pool(), token).await?.ok_or_else(unknown)?;
    let account = users::credentials(app.pool(), &invitation.email).await?;
    Ok((invitation, account.is_some_and(|account| account.has_owner())))
}

/// Uses an invitation up. Who has an account must be signed in as the one it is for; who has none makes it and gets the
/// cookie of a session.
///
/// # Errors
/// `not_found` as [`read`], `unauthenticated` or `forbidden` for somebody else, `invalid_request` for a password that cannot
/// be one.
pub(crate) async fn accept(
    app: &App,
    token: &str,
    person: Option<&SignedIn>,
    new: Option<NewAccount>,
    client: &Client,
) -> Result<Option<SessionCookie>> {
    let (invitation, has_account) = read(app, token).await?;
    let password = match (person, has_account, &new) {
        (Some(person), ..) if person.email == invitation.email => None,
        (Some(_), ..) => {
            let message = format!("this invitation is for {}, and you are signed in as another", invitation.email);
            return Err(ApiError::forbidden(message));
        }
        (None, true, _) => {
            return Err(ApiError::unauthenticated("you have an account: sign in, then open the link again"));
        }
        (None, false, Some(new)) => Some(sessions::hash(new.password.clone(), &invitation.email).await?),
        (None, false, None) => return Err(ApiError::invalid("password", "choose one: you have no account yet")),
    };
    let mut tx = app.pool().begin().await?;
    invitations::remove(&mut *tx, invitation.organization_id, invitation.id).await?.ok_or_else(unknown)?;
    let name = new.as_ref().map_or("", |new| new.name.trim());
    if name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(ApiError::invalid("name", "a name has at most 100 characters, none of them a control character"));
    }
    let name = if name.is_empty() { invitation.email.split('@').next().unwrap_or_default() } else { name };
    let user = users::ensure(&mut *tx, &invitation.email, name).await?;
    organizations::ensure_member(&mut *tx, invitation.organization_id, user, invitation.role).await?;
    let actor = client.actor(Some(invitation.organization_id), Some(user), invitation.email.clone());
    let entry = Entry::new("member.joined", &invitation.email).id(user).after(json!({ "role": invitation.role }));
    audit::write(&mut *tx, &actor, entry).await?;
    let cookie = match password {
        Some(hash) => {
            users::set_password(&mut *tx, user, &hash).await?;
            Some(sessions::open(app, &mut tx, user, client).await?)
        }
        None => None,
    };
    tx.commit().await?;
    Ok(cookie)
}

fn unknown() -> ApiError {
    let message = "this invitation has been used or withdrawn, or is too old; ask for a new one";
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}
