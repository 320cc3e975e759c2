//! What opens a project's private repository. It comes in and never goes out.

use axum::{extract::State, http::StatusCode};
use buildit_shared::db::{
    audit::{self, Entry},
    projects::Project,
    repository_credentials::{self, Key, RepositoryCredential},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::projects::{self, ProjectPath};
use crate::{
    App,
    auth::{Allowed, Caller, SecretsWrite},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path},
};

/// Who shows a token without another name: forges that look at the name at all take this one.
const USERNAME: &str = "oauth2";
/// The most bytes of a token, and of a key or the hosts.
const LONGEST_TOKEN: usize = 4 << 10;
const LONGEST_FILE: usize = 48 << 10;

/// What opens a repository.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SetCredential {
    /// For an `https://` address.
    Token {
        /// A personal, project or deploy token that may read the repository.
        token: String,
        /// Whose it is, where the forge looks at that: `oauth2` without it.
        username: Option<String>,
    },
    /// For an ssh address.
    SshKey {
        /// A private key without a passphrase, as `ssh-keygen` writes it.
        private_key: String,
        /// The host's public keys, as `ssh-keyscan` prints them: no other host is talked to.
        known_hosts: String,
    },
}

/// A project's credential; what is secret of it cannot be read.
#[derive(Serialize, ToSchema)]
pub(crate) struct Credential {
    /// `token` or `ssh_key`.
    pub(crate) kind: &'static str,
    /// The address that it was given for. It is shown to no other: after a change of the project's repository it is to be set
    /// anew.
    pub(crate) repository: String,
    /// Whether that is still the project's repository.
    pub(crate) usable: bool,
    /// Of a token.
    pub(crate) username: Option<String>,
    /// Of an SSH key.
    known_hosts: Option<String>,
    /// Who set it.
    pub(crate) set_by: String,
    pub(crate) set_at: Timestamp,
}

/// What opens a project's repository, without what is secret of it.
#[utoipa::path(get, path = "/api/v1/projects/{project}/credential", tag = "forges", operation_id = "read_credential",
    security(("api_key" = ["secrets:write"])), params(ProjectPath),
    responses((status = 200, body = Credential), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<Json<Credential>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    Ok(Json(shown(&app, &project).await?.ok_or_else(|| none_of(&project))?))
}

/// Give a project what opens its repository, in the place of what it had.
#[utoipa::path(put, path = "/api/v1/projects/{project}/credential", tag = "forges", operation_id = "set_credential",
    security(("api_key" = ["secrets:write"])), params(ProjectPath), request_body = SetCredential,
    responses((status = 200, body = Credential), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Json(new): Json<SetCredential>,
) -> Result<Json<Credential>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    put(&app, &caller, &project, new).await?;
    Ok(Json(shown(&app, &project).await?.ok_or_else(|| none_of(&project))?))
}

/// Take it away: the repository is then asked for without.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/credential", tag = "forges",
    operation_id = "delete_credential", security(("api_key" = ["secrets:write"])), params(ProjectPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<StatusCode> {
    let project = projects::find(&app, &caller, &path.project).await?;
    remove(&app, &caller, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn none_of(project: &Project) -> ApiError {
    ApiError::not_found("credential of the project", &project.name)
}

/// A project's credential, if it has one.
pub(crate) async fn shown(app: &App, project: &Project) -> Result<Option<Credential>> {
    let found = repository_credentials::find(app.pool(), project.id).await?;
    Ok(found.map(|RepositoryCredential { kind, repository, username, known_hosts, set_by, set_at }| Credential {
        kind: kind.name(),
        usable: repository == project.repository,
        repository,
        username,
        known_hosts,
        set_by,
        set_at: set_at.to_jiff(),
    }))
}

/// Sets a project's credential.
pub(crate) async fn put(app: &App, caller: &Caller, project: &Project, new: SetCredential) -> Result<()> {
    let key = checked(&project.repository, new)?;
    let kind = match &key {
        Key::Token { .. } => "token",
        Key::Ssh { .. } => "ssh_key",
    };
    let mut tx = app.pool().begin().await?;
    let (repository, by) = (&project.repository, caller.name());
    repository_credentials::set(&mut *tx, app.vault()?, project.id, repository, &key, &by).await?;
    let entry = Entry::new("credential.set", &project.name).id(project.id).project(project.id);
    let what = json!({ "kind": kind, "repository": repository });
    audit::write(&mut *tx, caller.actor(), entry.after(what)).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes a project's credential.
pub(crate) async fn remove(app: &App, caller: &Caller, project: &Project) -> Result<()> {
    let mut tx = app.pool().begin().await?;
    if !repository_credentials::delete(&mut *tx, project.id).await? {
        return Err(none_of(project));
    }
    let entry = Entry::new("credential.deleted", &project.name).id(project.id).project(project.id);
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(())
}

/// What git and ssh can do something with, for an address of that kind.
fn checked(repository: &str, new: SetCredential) -> Result<Key> {
    let https = repository.starts_with("https://");
    match new {
        _ if repository.starts_with('/') => {
            Err(ApiError::conflict("no_credential_needed", "this project's repository is a path, which needs none"))
        }
        SetCredential::Token { .. } if !https => {
            Err(ApiError::invalid("kind", "this project's repository is reached by ssh, which takes an `ssh_key`"))
        }
        SetCredential::SshKey { .. } if https => {
            Err(ApiError::invalid("kind", "this project's repository is reached by https, which takes a `token`"))
        }
        SetCredential::Token { token, username } => {
            let username = username.unwrap_or_else(|| USERNAME.into());
            for (field, text) in [("token", &token), ("username", &username)] {
                // It goes to git as a line.
                if text.is_empty() || text.len() > LONGEST_TOKEN || text.chars().any(char::is_control) {
                    let message = format!("it is one line of up to {LONGEST_TOKEN} bytes");
                    return Err(ApiError::invalid(field, message));
                }
            }
            Ok(Key::Token { username, token })
        }
        SetCredential::SshKey { private_key, known_hosts } => {
            check_private_key(&private_key).map_err(|message| ApiError::invalid("private_key", message))?;
            check_known_hosts(&known_hosts).map_err(|message| ApiError::invalid("known_hosts", message))?;
            let lines = |text: &str| format!("{}\n", text.replace("\r\n", "\n").trim());
            Ok(Key::Ssh { private_key: lines(&private_key), known_hosts: lines(&known_hosts) })
        }
    }
}

fn check_private_key(text: &str) -> std::result::Result<(), &'static str> {
    let text = text.trim();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let is_key = first.starts_with("-----BEGIN ") && first.trim_end().ends_with("PRIVATE KEY-----");
    if text.len() > LONGEST_FILE || text.contains('\0') || !is_key || !text.ends_with("PRIVATE KEY-----") {
        return Err("this is no private key as `ssh-keygen` writes it, from its BEGIN to its END line");
    }
    // OpenSSH's own format says first how it is encrypted: by nothing.
    let open = lines.next().unwrap_or_default().starts_with("b3BlbnNzaC1rZXktdjEAAAAABG5vbmU");
    if (first.contains("OPENSSH") && !open) || text.contains("ENCRYPTED") {
        return Err("this key has a passphrase, which nobody could type; make one without (`ssh-keygen -N ''`)");
    }
    Ok(())
}

fn check_known_hosts(text: &str) -> std::result::Result<(), &'static str> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    let fits = |line: &str| line.split_whitespace().count() >= 3 && !line.chars().any(char::is_control);
    if text.len() > LONGEST_FILE || lines.peek().is_none() || !lines.all(fits) {
        return Err("these are no lines of `known_hosts`: name, kind and key, as `ssh-keyscan` prints them");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n\
                       -----END OPENSSH PRIVATE KEY-----\n";
    const HOSTS: &str = "git.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI";

    fn token(token: &str) -> SetCredential {
        SetCredential::Token { token: token.into(), username: None }
    }

    fn key(private_key: &str, known_hosts: &str) -> SetCredential {
        SetCredential::SshKey { private_key: private_key.into(), known_hosts: known_hosts.into() }
    }

    #[test]
    fn each_kind_of_address_has_its_kind_of_credential() {
        let (https, ssh) = ("https://git.example/a", "git@git.example:a");
        assert!(matches!(checked(https, token("x")), Ok(Key::Token { username, .. }) if username == "oauth2"));
        assert!(checked(ssh, token("x")).is_err());
        assert!(checked("/srv/a", token("x")).is_err());
        assert!(checked(https, key(KEY, HOSTS)).is_err());
        for address in [ssh, "ssh://git@git.example:2222/a"] {
            let Ok(Key::Ssh { private_key, .. }) = checked(address, key(&KEY.replace('\n', "\r\n"), HOSTS)) else {
                panic!("{address}");
            };
            assert_eq!(private_key, KEY);
        }
    }

    #[test]
    fn what_nobody_could_use_is_refused() {
        for wrong in ["", "a\nb", "a\r", "a\0"] {
            assert!(checked("https://git.example/a", token(wrong)).is_err(), "{wrong:?}");
        }
        let with_passphrase = KEY.replace("AAAAABG5vbmU", "AAAAACmFlczI1Ni1jdHI");
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n-----END RSA PRIVATE KEY-----";
        for wrong in ["", "ssh-ed25519 AAAA", &KEY[..60], &with_passphrase, older] {
            assert!(checked("git@git.example:a", key(wrong, HOSTS)).is_err(), "{wrong:?}");
        }
        for wrong in ["", "# nothing", "git.example ssh-ed25519"] {
            assert!(checked("git@git.example:a", key(KEY, wrong)).is_err(), "{wrong:?}");
        }
    }
}
