//! Deletes the mirrors of projects that are gone. One that somebody works with stays until the next time.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use buildit_shared::{db::projects, ids::ProjectId};
use sqlx::PgPool;

/// Why not all mirrors were looked at. The next sweep goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Which projects there are is not known.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The folder of mirrors cannot be read or changed.
    #[error("mirrors of deleted projects cannot be deleted: {0}")]
    Folder(#[from] io::Error),
}

/// Deletes the mirrors in `folder` whose projects are gone; returns how many projects' they were.
pub async fn sweep(pool: &PgPool, folder: &Path) -> Result<usize, Error> {
    let mirrors = mirrors(folder)?;
    let all: Vec<ProjectId> = mirrors.keys().copied().collect();
    // A mirror is younger than its project, so what is not there any more was deleted.
    let there: HashSet<ProjectId> = projects::existing(pool, &all).await?.into_iter().collect();
    let gone = mirrors.into_iter().filter(|(project, _)| !there.contains(project));
    let mut deleted = 0;
    for (_, names) in gone {
        for name in names {
            delete(folder, &name)?;
        }
        deleted += 1;
    }
    Ok(deleted)
}

/// The names, without their ends, of what each project has here: a mirror, maybe a spare.
fn mirrors(folder: &Path) -> io::Result<BTreeMap<ProjectId, HashSet<OsString>>> {
    let mut mirrors: BTreeMap<ProjectId, HashSet<OsString>> = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        // Nothing was fetched yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(mirrors),
        entries => entries?,
    };
    for entry in entries {
        let path = PathBuf::from(entry?.file_name());
        let is_ours = path.extension().is_some_and(|end| end == "git" || end == "lock");
        let (Some(name), true) = (path.file_stem(), is_ours) else { continue };
        let project = name.to_str().and_then(|name| name.strip_suffix(".spare").unwrap_or(name).parse().ok());
        if let Some(project) = project {
            mirrors.entry(project).or_default().insert(name.to_owned());
        }
    }
    Ok(mirrors)
}

fn delete(folder: &Path, name: &OsString) -> io::Result<()> {
    let with = |end: &str| {
        let mut file = name.clone();
        file.push(end);
        folder.join(file)
    };
    let lock_file = with(".lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_file)?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    match fs::remove_dir_all(with(".git")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::remove_file(lock_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
