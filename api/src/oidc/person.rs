//! Which account somebody has whom the provider knows.
//!
//! The issuer and the subject decide. Where they are not known yet, an address that the provider has verified leads once to the account
//! of that address, or to what it was invited to, and they are linked from then on. An address that was not verified leads to
//! nothing: at many providers anybody can write any address.

use axum::http::StatusCode;
use buildit_shared::{
    db::{
        audit::{self, Entry},
        identities, invitations, organizations, users,
    },
    ids::{OrganizationId, UserId},
    permission::Role,
};
use serde_json::json;
use sqlx::PgConnection;

use super::{Oidc, id_token::Person};
use crate::{
    App,
    auth::Client,
    error::{ApiError, Result},
    sessions,
};

/// Whoever signs in.
pub(super) struct Account {
    pub(super) id: UserId,
    pub(super) email: String,
    /// They were made a member of something just now.
    pub(super) has_joined: bool,
}

/// The account of that person. The caller commits.
///
/// # Errors
/// `email_not_verified`, `email_not_admitted`, `not_invited`, or `linked_otherwise` where another person of the same provider has
/// that address's account.
pub(super) async fn account(
    app: &App,
    oidc: &Oidc,
    db: &mut PgConnection,
    person: &Person,
    client: &Client,
) -> Result<Account> {
    let settings = &oidc.settings;
    if !settings.domains.is_empty() && !person.email.as_deref().is_some_and(|email| settings.admits(email)) {
        let message = format!("only verified addresses at {} are admitted here", settings.domains.join(", "));
        return Err(refused("email_not_admitted", message));
    }
    if let Some(account) = identities::used(&mut *db, &person.issuer, &person.subject).await? {
        return Ok(Account { id: account.id, email: account.email, has_joined: false });
    }
    let Some(email) = &person.email else {
        let message = format!(
            "{} has not verified your e-mail address, so it cannot be told who you are here; verify it there, then begin again",
            oidc.label()
        );
        return Err(refused("email_not_verified", message));
    };
    let (id, has_joined) = match users::credentials(&mut *db, email).await? {
        Some(account) => (account.id, false),
        None => (newcomer(app, oidc, db, person, email, client).await?, true),
    };
    link(oidc, db, id, person, email, client).await?;
    Ok(Account { id, email: email.clone(), has_joined })
}

/// Makes an account for who was invited, or may come uninvited.
async fn newcomer(
    app: &App,
    oidc: &Oidc,
    db: &mut PgConnection,
    person: &Person,
    email: &str,
    client: &Client,
) -> Result<UserId> {
    let mut joins: Vec<(OrganizationId, Role)> = Vec::new();
    for invitation in invitations::of_address(&mut *db, email).await? {
        // Whoever was faster has used it.
        if invitations::remove(&mut *db, invitation.organization_id, invitation.id).await?.is_some() {
            joins.push((invitation.organization_id, invitation.role));
        }
    }
    if let (true, Some(newcomers)) = (joins.is_empty(), &oidc.settings.newcomers) {
        let Some(organization) = organizations::find(app.pool(), &newcomers.organization).await? else {
            let organization = &newcomers.organization;
            return Err(ApiError::internal(format!(
                "`organization` of [oidc] is {organization:?}, which is not there"
            )));
        };
        joins.push((organization, newcomers.role));
    }
    if joins.is_empty() {
        let message =
            format!("nobody has invited {email} yet; ask an administrator of your organization here for an invitation");
        return Err(refused("not_invited", message));
    }
    let user = users::ensure(&mut *db, email, &name(person, email)).await?;
    for (organization, role) in joins {
        organizations::ensure_member(&mut *db, organization, user, role).await?;
        let actor = client.actor(Some(organization), Some(user), email.to_owned());
        let entry = Entry::new("member.joined", email).id(user).after(json!({ "role": role, "issuer": person.issuer }));
        audit::write(&mut *db, &actor, entry).await?;
    }
    Ok(user)
}

async fn link(
    oidc: &Oidc,
    db: &mut PgConnection,
    user: UserId,
    person: &Person,
    email: &str,
    client: &Client,
) -> Result<()> {
    if identities::link(&mut *db, user, &person.issuer, &person.subject, email).await? {
        let actor = client.actor(None, Some(user), email.to_owned());
        let after = json!({ "issuer": person.issuer, "subject": person.subject });
        return sessions::note(db, &actor, user, Entry::new("identity.linked", email).id(user).after(after)).await;
    }
    // The same person, in another tab at the same time?
    let linked = identities::used(&mut *db, &person.issuer, &person.subject).await?;
    if linked.is_some_and(|account| account.id == user) {
        return Ok(());
    }
    let message = format!(
        "the account of {email} belongs to somebody else at {}; whoever has its password can take that link away in the settings",
        oidc.label()
    );
    Err(refused("linked_otherwise", message))
}

/// What they are called: as the provider says, else as their address begins.
fn name(person: &Person, email: &str) -> String {
    let said = person.name.as_deref().map(str::trim).unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(100).collect();
    if said.is_empty() { email.split('@').next().unwrap_or_default().to_owned() } else { said }
}

fn refused(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, message)
}
