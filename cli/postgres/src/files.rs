//! The few operations on files that the others share.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

/// Puts `content` at `path` whole or not at all, readable by the owner alone.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder_of(path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a rename in the folder of `path` survive a power failure.
pub(crate) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Creates the folder where it is missing and gives it `mode` in any case, whatever the umask says.
pub(crate) fn folder(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot create the folder {}", path.display()))
}

/// Calls `each` for `path` and everything below it, following no links.
pub(crate) fn walk(path: &Path, each: &dyn Fn(&Path, &fs::Metadata) -> std::io::Result<()>) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    each(path, &metadata)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), each)?;
        }
    }
    Ok(())
}

/// An exclusive lock that is held until the returned file is dropped, or its process ends.
/// `busy` is called when someone else holds it.
pub(crate) async fn lock(path: &Path, busy: impl FnOnce()) -> Result<File> {
    let failed = || format!("cannot lock {}", path.display());
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(fs::TryLockError::WouldBlock) => busy(),
        Err(fs::TryLockError::Error(error)) => return Err(error).with_context(failed),
    }
    // The holder may be a task of this very thread, which must not stand still meanwhile.
    tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?.with_context(failed)
}
