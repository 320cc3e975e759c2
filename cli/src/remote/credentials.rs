//! The server's address and the key: from BUILDIT_URL and BUILDIT_TOKEN, else from a file for its owner alone.
//!
//! A key goes to the server that it was stored for and to no other.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::PathBuf,
};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::exit::Problem;

/// Where a server of one's own machine listens.
const DEFAULT_URL: &str = "http://127.0.0.1:30080";

/// What to talk to, and as whom. It has no `Debug`, so that the key gets into no message.
#[derive(Serialize, Deserialize)]
pub(super) struct Credentials {
    pub(super) url: Url,
    pub(super) key: String,
}

/// What the commands use.
///
/// # Errors
/// A usage problem when nobody is logged in.
pub(super) fn load() -> Result<Credentials, Problem> {
    let (url, key) = (url_variable()?, variable("BUILDIT_TOKEN"));
    let Some(key) = key else {
        let stored = stored()?;
        return match (stored, url) {
            (Some(stored), None) => Ok(stored),
            (Some(stored), Some(url)) if is_same(&stored.url, &url) => Ok(Credentials { url, ..stored }),
            (_, Some(url)) => Err(Problem::usage(anyhow!(
                "there is no key for {url}, which BUILDIT_URL names: run `buildit login {url}`, or set BUILDIT_TOKEN"
            ))),
            (None, None) => Err(Problem::usage(anyhow!(
                "nobody is logged in: run `buildit login URL`, or set BUILDIT_URL and BUILDIT_TOKEN"
            ))),
        };
    };
    let url = match url {
        Some(url) => url,
        None => stored()?.map_or_else(default_url, |stored| Ok(stored.url))?,
    };
    Ok(Credentials { url, key: check_key(&key)? })
}

/// The address that a login without one means.
pub(super) fn usual_url() -> Result<Url, Problem> {
    match url_variable()? {
        Some(url) => Ok(url),
        // What cannot be read is about to be replaced.
        None => stored().ok().flatten().map_or_else(default_url, |stored| Ok(stored.url)),
    }
}

/// The key without what a terminal or a file puts around it.
pub(super) fn check_key(key: &str) -> Result<String, Problem> {
    let key = key.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::usage(anyhow!("the key is empty or holds characters that no key has")));
    }
    Ok(key.to_owned())
}

/// Keeps them, whole or not at all; returns where.
pub(super) fn store(credentials: &Credentials) -> Result<PathBuf, Problem> {
    let path = path()?;
    let folder = path.parent().context("the file has no folder")?;
    let write = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Made for its owner alone.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, credentials)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Forgets them; returns the server that they were for, if there were any.
pub(super) fn remove() -> Result<Option<Url>, Problem> {
    let path = path()?;
    let url = stored().ok().flatten().map(|stored| stored.url);
    match fs::remove_file(&path) {
        Ok(()) => Ok(Some(url.map_or_else(default_url, Ok)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!("cannot remove {}: {error}", path.display()).into()),
    }
}

fn stored() -> Result<Option<Credentials>, Problem> {
    let path = path()?;
    let shown = path.display();
    let content = match fs::read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::usage(anyhow!("cannot read {shown}: {error}"))),
    };
    let mode = fs::metadata(&path)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Problem::usage(anyhow!(
            "others can read the key in {shown}: run `chmod 600 {shown}`, and have the key replaced if they may have"
        )));
    }
    serde_json::from_slice(&content)
        .map(Some)
        // The cause would quote what stands there.
        .map_err(|_| Problem::usage(anyhow!("{shown} is damaged: run `buildit login` again")))
}

fn path() -> Result<PathBuf, Problem> {
    // A relative one counts as none, says the XDG specification.
    let configured = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = configured.or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    let folder = folder.ok_or_else(|| Problem::usage(anyhow!("neither XDG_CONFIG_HOME nor HOME is set")))?;
    Ok(folder.join("buildit/login.json"))
}

fn url_variable() -> Result<Option<Url>, Problem> {
    let Some(text) = variable("BUILDIT_URL") else { return Ok(None) };
    let url = text.parse().map_err(|error| Problem::usage(anyhow!("BUILDIT_URL is {text:?}, no address: {error}")))?;
    Ok(Some(url))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn default_url() -> Result<Url, Problem> {
    Ok(DEFAULT_URL.parse()?)
}

/// The same server, and the same place on it.
fn is_same(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin() && one.path().trim_end_matches('/') == other.path().trim_end_matches('/')
}
