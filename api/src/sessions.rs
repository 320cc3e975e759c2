//! How people get in and out, for JSON and for pages alike.

use std::net::IpAddr;

use axum::http::StatusCode;
use buildit_shared::{
    db::{
        audit::{self, Actor, Entry},
        organizations, sessions,
        sign_in_failures::{self, Subject},
        users::{self, Credentials},
        welcome_links,
    },
    ids::{SessionId, UserId},
    password,
};
use sqlx::PgConnection;

use crate::{
    App,
    auth::{Client, SessionCookie, SignedIn},
    error::{ApiError, Result},
};

/// Wrong passwords in a quarter of an hour: for one account from one address, for all accounts from one address, and for
/// one account from anywhere. The last is wide, or anybody could keep its owner out.
const MOST_FOR_BOTH: i32 = 10;
const MOST_FROM_ADDRESS: i32 = 50;
const MOST_FOR_ACCOUNT: i32 = 100;

/// Signs somebody in: the cookie of a new session. Whether there is no such account or the password is wrong cannot be told
/// from the answer, nor from how long it takes.
///
/// # Errors
/// `wrong_credentials`, or `too_many_attempts`.
pub(crate) async fn sign_in(app: &App, email: &str, password: String, client: &Client) -> Result<SessionCookie> {
    let account = authenticate(app, email, password, client).await?;
    let mut tx = app.pool().begin().await?;
    let cookie = open(app, &mut tx, account.id, client).await?;
    let actor = client.actor(None, Some(account.id), account.email.clone());
    note(&mut tx, &actor, account.id, Entry::new("session.opened", &account.email)).await?;
    tx.commit().await?;
    Ok(cookie)
}

/// Ends the session.
pub(crate) async fn sign_out(app: &App, person: &SignedIn) -> Result<SessionCookie> {
    end(app, person, person.id).await?;
    Ok(SessionCookie::forget(&app.config.public_url))
}

/// Ends one of somebody's sessions.
///
/// # Errors
/// `not_found` when it is none of theirs.
pub(crate) async fn end(app: &App, person: &SignedIn, session: SessionId) -> Result<()> {
    let mut tx = app.pool().begin().await?;
    if !sessions::revoke(&mut *tx, person.user_id, session).await? {
        return Err(ApiError::not_found("session", session));
    }
    let entry = Entry::new("session.ended", &person.email).id(session);
    note(&mut tx, person.actor(), person.user_id, entry).await?;
    tx.commit().await?;
    Ok(())
}

/// Whom the link with this token is for.
///
/// # Errors
/// `not_found` when it is unknown, used or older than a day.
pub(crate) async fn welcomed(app: &App, token: &str) -> Result<welcome_links::Welcome> {
    welcome_links::find(app.pool(), token).await?.ok_or_else(unknown_link)
}

/// Uses a link up: sets the password, ends the account's sessions, and begins a new one.
///
/// # Errors
/// `not_found` as [`welcomed`]; `invalid_request` for a password that cannot be one, which leaves the link as it was.
pub(crate) async fn welcome(app: &App, token: &str, password: String, client: &Client) -> Result<SessionCookie> {
    let welcome = welcomed(app, token).await?;
    let hash = hash(password, &welcome.email).await?;
    let mut tx = app.pool().begin().await?;
    if !welcome_links::use_up(&mut *tx, token).await? {
        return Err(unknown_link());
    }
    users::set_password(&mut *tx, welcome.user_id, &hash).await?;
    sessions::revoke_all_but(&mut *tx, welcome.user_id, None).await?;
    let cookie = open(app, &mut tx, welcome.user_id, client).await?;
    let actor = client.actor(None, Some(welcome.user_id), welcome.email.clone());
    let entry = Entry::new("password.chosen", &welcome.email).id(welcome.user_id);
    note(&mut tx, &actor, welcome.user_id, entry).await?;
    tx.commit().await?;
    Ok(cookie)
}

/// Sets another password and ends all of the account's other sessions.
///
/// # Errors
/// As [`sign_in`] where `current` is wrong; `invalid_request` where `new` cannot be a password.
pub(crate) async fn change_password(
    app: &App,
    person: &SignedIn,
    current: String,
    new: String,
    client: &Client,
) -> Result<()> {
    authenticate(app, &person.email, current, client).await?;
    let hash = hash(new, &person.email).await?;
    let mut tx = app.pool().begin().await?;
    users::set_password(&mut *tx, person.user_id, &hash).await?;
    sessions::revoke_all_but(&mut *tx, person.user_id, Some(person.id)).await?;
    let entry = Entry::new("password.changed", &person.email).id(person.user_id);
    note(&mut tx, person.actor(), person.user_id, entry).await?;
    tx.commit().await?;
    Ok(())
}

/// Has the session look at another organization of its owner's, by id or name.
///
/// # Errors
/// `not_found` where they are no member.
pub(crate) async fn switch(app: &App, person: &SignedIn, organization: &str) -> Result<()> {
    match sessions::switch(app.pool(), person.id, organization).await? {
        true => Ok(()),
        false => Err(ApiError::not_found("organization", organization)),
    }
}

/// Begins a session.
pub(crate) async fn open(app: &App, db: &mut PgConnection, user: UserId, client: &Client) -> Result<SessionCookie> {
    let address = client.address.map(|address| address.to_string());
    let created = sessions::create(db, user, &client.user_agent, address.as_deref()).await?;
    Ok(SessionCookie::keep(&created.token, &app.config.public_url))
}

/// Notes what happened to an account, for all organizations that its owner is a member of.
pub(crate) async fn note(db: &mut PgConnection, actor: &Actor, user: UserId, entry: Entry) -> Result<()> {
    let of: Vec<_> = organizations::of_user(&mut *db, user).await?.iter().map(|organization| organization.id).collect();
    Ok(audit::write_for_members(db, actor, &of, entry).await?)
}

async fn authenticate(app: &App, email: &str, password: String, client: &Client) -> Result<Credentials> {
    let limits = limits(email, client.address);
    for (subject, most) in &limits {
        if sign_in_failures::note(app.pool(), *subject).await? > *most {
            let message = "too many wrong passwords; try again in a quarter of an hour";
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message));
        }
    }
    let account = users::credentials(app.pool(), email).await?;
    let hash = account.as_ref().and_then(|account| account.password_hash.clone());
    let right = password::verify(password, hash).await.map_err(ApiError::internal)?;
    match account.filter(|_| right) {
        Some(account) => {
            for (subject, _) in limits {
                sign_in_failures::take_back(app.pool(), subject).await?;
            }
            Ok(account)
        }
        None => {
            let message = "the address or the password is wrong";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "wrong_credentials", message))
        }
    }
}

fn limits(email: &str, address: Option<IpAddr>) -> Vec<(Subject, i32)> {
    let email = email.to_lowercase();
    let mut limits = Vec::new();
    if let Some(address) = address.map(network) {
        limits.push((Subject::of(&format!("from {address}")), MOST_FROM_ADDRESS));
        limits.push((Subject::of(&format!("from {address} for {email}")), MOST_FOR_BOTH));
    }
    limits.push((Subject::of(&format!("for {email}")), MOST_FOR_ACCOUNT));
    limits
}

/// What one client has to choose addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

/// The hash of a password that somebody chose.
///
/// # Errors
/// `invalid_request` where it cannot be one.
pub(crate) async fn hash(password: String, email: &str) -> Result<String> {
    password::hash(password, email).await.map_err(|error| match error {
        password::Error::Refused(reason) => ApiError::invalid("password", reason),
        error => ApiError::internal(error),
    })
}

fn unknown_link() -> ApiError {
    let message = "this link has been used or is too old; ask for a new one";
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}
