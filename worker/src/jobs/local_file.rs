//! Objects as files of this machine: in place where the store is files, else fetched once and kept for those who come
//! soon after, such as the other steps of a run. Packed commits are kept here too.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use buildit_shared::{queue::JobError, storage::Checksum};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{Context, stored};

/// What nobody asked for during this time goes. A runner opens its files moments after it was started.
const KEPT: Duration = Duration::from_secs(2 * 3600);

/// A file with the object's bytes; it must not be written to.
pub(super) async fn local_file(cx: &Context, key: &str) -> Result<PathBuf, JobError> {
    if let Some(path) = cx.storage.local_path(key) {
        return Ok(path);
    }
    let io = |error: io::Error| JobError::retry(format!("the object {key} cannot be kept on this machine: {error}"));
    if let Some(path) = kept(&cx.scratch, key).await.map_err(io)? {
        return Ok(path);
    }
    let folder = folder(&cx.scratch);
    let path = folder.join(Checksum::of(key.as_bytes()).to_string());
    let new = tempfile::NamedTempFile::new_in(&folder).map_err(io)?;
    cx.storage.get_file(key, new.path()).await.map_err(stored("an object"))?;
    new.persist(&path).map_err(|error| io(error.error))?;
    Ok(path)
}

/// What was kept under this name, if it still is; it must not be written to.
pub(super) async fn kept(scratch: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    let folder = folder(scratch);
    let path = folder.join(Checksum::of(name.as_bytes()).to_string());
    Ok(at_hand(folder, path.clone()).await?.then_some(path))
}

/// Takes `file` away and keeps it under this name for those who come soon after.
pub(super) async fn keep(scratch: &Path, name: &str, file: PathBuf) -> io::Result<()> {
    let path = folder(scratch).join(Checksum::of(name.as_bytes()).to_string());
    let keep = move || {
        // What has its name is whole, also after a power cut.
        File::open(&file)?.sync_all()?;
        fs::rename(file, path)
    };
    tokio::task::spawn_blocking(keep).await.map_err(io::Error::other)?
}

/// Deletes what was fetched and is not used any more.
pub(crate) async fn sweep(scratch: &Path) -> io::Result<()> {
    let folder = folder(scratch);
    tokio::task::spawn_blocking(move || sweep_now(&folder)).await.map_err(io::Error::other)?
}

fn folder(scratch: &Path) -> PathBuf {
    scratch.join("objects")
}

/// Whether the file is there; it then stays for a while. Taken for absent while others are swept: a sweeper that is
/// frozen must hold nobody up.
async fn at_hand(folder: PathBuf, path: PathBuf) -> io::Result<bool> {
    let look = move || {
        fs::create_dir_all(&folder)?;
        let Some(_lock) = lock(&folder, FlockOperation::NonBlockingLockShared)? else { return Ok(false) };
        match File::open(&path) {
            Ok(file) => file.set_modified(SystemTime::now()).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    };
    tokio::task::spawn_blocking(look).await.map_err(io::Error::other)?
}

fn sweep_now(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    // Nobody may find a file that goes in the next moment.
    let Some(_lock) = lock(folder, FlockOperation::NonBlockingLockExclusive)? else { return Ok(()) };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > KEPT) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The folder's lock; `None` while somebody else has it.
fn lock(folder: &Path, how: FlockOperation) -> io::Result<Option<File>> {
    let lock = File::open(folder)?;
    match flock(&lock, how) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_used_stays_and_the_rest_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = folder(scratch.path());
        sweep(scratch.path()).await.unwrap();
        assert!(!at_hand(folder.clone(), folder.join("used")).await.unwrap());
        for name in ["used", "unused"] {
            let file = File::create(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - KEPT - Duration::from_secs(60)).unwrap();
        }
        assert!(at_hand(folder.clone(), folder.join("used")).await.unwrap());
        sweep(scratch.path()).await.unwrap();
        assert!(folder.join("used").exists());
        assert!(!folder.join("unused").exists());
    }
}
