//! What the first `buildit up` makes, and every later one finds: secrets, an organization, an account, a key, and the file
//! that further workers and clients read.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use buildit_shared::{
    db::{api_keys, organizations, users},
    ids::OrganizationId,
    permission::{Permission, Role},
};
use sqlx::PgPool;
use url::Url;

use super::account;

/// The organization of an installation's first account.
pub(crate) const ORGANIZATION: &str = "home";
/// The variable that names the executor.
pub(super) const EXECUTOR: &str = "BUILDIT_EXECUTOR";
const ACCOUNT: &str = "admin@localhost";

/// A key of 256 random bits in a file of that name; made once.
pub(super) fn key(data: &Path, name: &str) -> anyhow::Result<String> {
    let path = data.join(name);
    if let Ok(key) = fs::read_to_string(&path) {
        return Ok(key.trim().to_owned());
    }
    let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    write_private(&path, &key)?;
    Ok(key)
}

/// What everything else hangs on.
pub(super) struct Home {
    /// The first organization.
    pub(super) organization: OrganizationId,
    /// A key of it: the one in `buildit.env`, if it still opens the door.
    pub(super) token: String,
    /// Where its owner chooses a password; none once that is done.
    pub(super) welcome: Option<String>,
}

/// The organization with its owner, who operates the installation as well.
pub(super) async fn home(pool: &PgPool, data: &Path, url: &Url) -> anyhow::Result<Home> {
    let mut tx = pool.begin().await?;
    let organization = organizations::ensure(&mut tx, ORGANIZATION).await?;
    let user = users::ensure(&mut *tx, ACCOUNT, "Administrator").await?;
    organizations::ensure_member(&mut *tx, organization, user, Role::Owner).await?;
    users::make_operator(&mut *tx, user).await?;
    let welcome = match users::has_password(&mut *tx, user).await? {
        true => None,
        false => Some(account::link(&mut tx, user, url).await?),
    };
    tx.commit().await?;
    if let Some(token) = read(data, "BUILDIT_TOKEN")
        && api_keys::authenticate(pool, &token).await?.is_some()
    {
        return Ok(Home { organization, token, welcome });
    }
    let key = api_keys::NewKey {
        organization_id: organization,
        name: "buildit up",
        permissions: &Permission::ALL,
        project_id: None,
        user_id: None,
        created_by: Some(user),
        expires_at: None,
    };
    Ok(Home { organization, token: api_keys::create(pool, key).await?.plain, welcome })
}

/// The executor of the starts before this one; `local` where it was not written down yet.
pub(super) fn executor(data: &Path) -> Option<String> {
    let known = read(data, EXECUTOR);
    known.or_else(|| env_file(data).exists().then(|| "local".to_owned()))
}

fn env_file(data: &Path) -> PathBuf {
    data.join("buildit.env")
}

fn read(data: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(env_file(data)).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('\'').to_owned())
}

/// Writes the variables as a file for `set -a; . D/buildit.env`.
pub(super) fn write_env(data: &Path, variables: &[(&str, String)]) -> anyhow::Result<PathBuf> {
    let mut text = String::from("# Written by `buildit up` at every start. Keep it to yourself: it holds keys.\n");
    for (name, value) in variables {
        text.push_str(&format!("{name}='{}'\n", value.replace('\'', "'\\''")));
    }
    let path = env_file(data);
    write_private(&path, &text)?;
    Ok(path)
}

/// A file for its owner alone, replaced as a whole.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
