//! What opens a project's private repository: a token or an SSH key. It comes in sealed and leaves for git alone.

use sqlx::{PgExecutor, PgPool};

use super::SealedError;
use crate::{
    ids::ProjectId,
    vault::{Sealed, Vault},
};

/// What is shown to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "credential_kind", rename_all = "snake_case")]
pub enum CredentialKind {
    /// A password, over HTTPS.
    Token,
    /// A private key.
    SshKey,
}

impl CredentialKind {
    /// The name used in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::SshKey => "ssh_key",
        }
    }
}

/// A credential, as far as it can be shown.
#[derive(Clone, Debug)]
pub struct RepositoryCredential {
    /// What it is.
    pub kind: CredentialKind,
    /// The address it was given for.
    pub repository: String,
    /// Who shows the token.
    pub username: Option<String>,
    /// The host's public keys.
    pub known_hosts: Option<String>,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: jiff_sqlx::Timestamp,
}

/// What opens a repository.
#[derive(Clone)]
pub enum Key {
    /// A password over HTTPS.
    Token {
        /// Who shows it.
        username: String,
        /// The token.
        token: String,
    },
    /// A private key.
    Ssh {
        /// As `ssh-keygen` writes it.
        private_key: String,
        /// The lines of `known_hosts` that the host must match.
        known_hosts: String,
    },
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token { username, .. } => f.debug_struct("Token").field("username", username).finish_non_exhaustive(),
            Self::Ssh { known_hosts, .. } => {
                f.debug_struct("Ssh").field("known_hosts", known_hosts).finish_non_exhaustive()
            }
        }
    }
}

/// Sealed for this project and address: with another address it cannot be opened.
fn place(project: ProjectId, repository: &str) -> Vec<u8> {
    [&b"repository credential"[..], project.uuid().as_bytes(), repository.as_bytes()].concat()
}

/// Sets a project's credential for this address, in the place of the one it had.
pub async fn set(
    db: impl PgExecutor<'_>,
    vault: &Vault,
    project: ProjectId,
    repository: &str,
    key: &Key,
    by: &str,
) -> Result<(), SealedError> {
    let (kind, value, username, known_hosts) = match key {
        Key::Token { username, token } => (CredentialKind::Token, token, Some(username), None),
        Key::Ssh { private_key, known_hosts } => (CredentialKind::SshKey, private_key, None, Some(known_hosts)),
    };
    let sealed = vault.seal(&place(project, repository), value.as_bytes())?;
    sqlx::query!(
        r#"
        insert into repository_credentials (project_id, organization_id, kind, repository, username, known_hosts,
                                            key_id, sealed, set_by)
        select id, organization_id, $2, $3, $4, $5, $6, $7, $8 from projects where id = $1
        on conflict (project_id) do update
        set kind = excluded.kind, repository = excluded.repository, username = excluded.username,
            known_hosts = excluded.known_hosts, key_id = excluded.key_id, sealed = excluded.sealed,
            set_by = excluded.set_by, set_at = now()
        "#,
        project.uuid(),
        kind as CredentialKind,
        repository,
        username,
        known_hosts,
        sealed.key_id,
        sealed.bytes,
        by
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A project's credential, without what is secret.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId) -> Result<Option<RepositoryCredential>, sqlx::Error> {
    sqlx::query_as!(
        RepositoryCredential,
        r#"
        select kind as "kind: CredentialKind", repository, username, known_hosts, set_by,
               set_at as "set_at: jiff_sqlx::Timestamp"
        from repository_credentials where project_id = $1
        "#,
        project.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Deletes a project's credential; `false` if it has none.
pub async fn delete(db: impl PgExecutor<'_>, project: ProjectId) -> Result<bool, sqlx::Error> {
    let deleted =
        sqlx::query!("delete from repository_credentials where project_id = $1", project.uuid()).execute(db).await?;
    Ok(deleted.rows_affected() > 0)
}

/// What a project has to open a repository with.
#[derive(Clone, Debug)]
pub struct SealedKey {
    /// The only address that it is for.
    pub repository: String,
    project: ProjectId,
    kind: CredentialKind,
    username: Option<String>,
    known_hosts: Option<String>,
    key_id: String,
    sealed: Vec<u8>,
}

impl SealedKey {
    /// The key itself.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(self, vault: &Vault) -> Result<Key, crate::vault::Error> {
        let sealed = Sealed { key_id: self.key_id, bytes: self.sealed };
        let value = vault.open_text(&place(self.project, &self.repository), &sealed)?;
        Ok(match self.kind {
            CredentialKind::Token => Key::Token { username: self.username.unwrap_or_default(), token: value },
            CredentialKind::SshKey => {
                Key::Ssh { private_key: value, known_hosts: self.known_hosts.unwrap_or_default() }
            }
        })
    }
}

/// What a project has to open its repository with.
pub async fn sealed(db: impl PgExecutor<'_>, project: ProjectId) -> Result<Option<SealedKey>, sqlx::Error> {
    sqlx::query_as!(
        SealedKey,
        r#"
        select project_id as "project: ProjectId", kind as "kind: CredentialKind", repository, username, known_hosts,
               key_id, sealed
        from repository_credentials where project_id = $1
        "#,
        project.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Seals anew, under the vault's first key, up to `most` credentials that are sealed under others; tells how many.
pub async fn rotate(pool: &PgPool, vault: &Vault, most: i64) -> Result<usize, SealedError> {
    let mut tx = pool.begin().await?;
    let rows = sqlx::query!(
        r#"
        select project_id as "project: ProjectId", repository, key_id, sealed from repository_credentials
        where key_id <> $1 order by project_id limit $2 for update
        "#,
        vault.key_id(),
        most
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = rows.len();
    for row in rows {
        let old = Sealed { key_id: row.key_id, bytes: row.sealed };
        let sealed = vault.seal_anew(&place(row.project, &row.repository), &old)?;
        sqlx::query!(
            "update repository_credentials set key_id = $2, sealed = $3 where project_id = $1",
            row.project.uuid(),
            sealed.key_id,
            sealed.bytes
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(count)
}
