//! The folder that is unpacked into.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, fchown, futimens, linkat,
    mkdirat, openat, openat2, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::UnpackError;
use crate::spec::StepUser;

/// Never follows a link, never leaves the folder.
pub(crate) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

pub(super) struct Target {
    root: Rc<OwnedFd>,
    owner: Option<(Uid, Gid)>,
    /// The folder that the last entry went into: the next one mostly goes there too.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Folders get their modes and times last, when nothing more is put into them.
    folders: BTreeMap<PathBuf, (Mode, Timestamps)>,
}

impl Target {
    pub(super) fn open(root: &Path, owner: Option<StepUser>) -> Result<Target, UnpackError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| at(root, error))?;
        let owner = owner.map(|user| (Uid::from_raw(user.uid), Gid::from_raw(user.gid)));
        Ok(Target { root: Rc::new(root), owner, last: None, folders: BTreeMap::new() })
    }

    pub(super) fn file(
        &mut self,
        path: &Path,
        content: &mut impl Read,
        mode: u32,
        mtime: u64,
    ) -> Result<(), UnpackError> {
        let (parent, name) = self.parent(path)?;
        remove(&parent, &name).map_err(|error| at(path, error))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, &name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| at(path, error))?;
        let mut file = File::from(file);
        io::copy(content, &mut file).map_err(|source| write_error(path, source))?;
        self.finish_one(&file, permissions(mode), &times(mtime)).map_err(|error| at(path, error))
    }

    pub(super) fn folder(&mut self, path: &Path, mode: u32, mtime: u64) -> Result<(), UnpackError> {
        let (parent, name) = self.parent(path)?;
        let made = match mkdirat(&parent, &name, Mode::RWXU) {
            Err(Errno::EXIST) if !is(&parent, &name, FileType::Directory) => {
                remove(&parent, &name).and_then(|()| mkdirat(&parent, &name, Mode::RWXU))
            }
            Err(Errno::EXIST) => Ok(()),
            made => made,
        };
        made.map_err(|error| at(path, error))?;
        self.folders.insert(path.to_owned(), (permissions(mode), times(mtime)));
        Ok(())
    }

    pub(super) fn symlink(&mut self, path: &Path, link: &Path, mtime: u64) -> Result<(), UnpackError> {
        let (parent, name) = self.parent(path)?;
        let owner = self.owner;
        let make = || {
            remove(&parent, &name)?;
            symlinkat(link, &parent, &name)?;
            if let Some((uid, gid)) = owner {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&parent, &name, Some(uid), Some(gid), flags)?;
            }
            rustix::fs::utimensat(&parent, &name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
        };
        make().map_err(|error| at(path, error))
    }

    pub(super) fn hard_link(&mut self, path: &Path, existing: &Path) -> Result<(), UnpackError> {
        let (from, from_name) = self.parent(existing)?;
        if !is(&from, &from_name, FileType::RegularFile) {
            return Err(UnpackError::Refused {
                path: path.display().to_string(),
                reason: "a hard link to what is no file of the folder",
            });
        }
        let (parent, name) = self.parent(path)?;
        if path == existing {
            return Ok(());
        }
        remove(&parent, &name)
            .and_then(|()| linkat(&from, &from_name, &parent, &name, AtFlags::empty()))
            .map_err(|error| at(path, error))
    }

    /// Sets the folders' modes and times, inner ones first.
    pub(super) fn finish(mut self) -> Result<(), UnpackError> {
        for (path, (mode, times)) in std::mem::take(&mut self.folders).into_iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat2(&self.root, &path, flags, Mode::empty(), BENEATH)
                .and_then(|folder| self.finish_one(&folder, mode, &times))
                .map_err(|error| at(&path, error))?;
        }
        Ok(())
    }

    fn finish_one(&self, file: impl AsFd, mode: Mode, times: &Timestamps) -> rustix::io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        fchmod(&file, mode)?;
        futimens(&file, times)
    }

    /// The folder that `path` is in, made where missing, and the last part of `path`.
    fn parent(&mut self, path: &Path) -> Result<(Rc<OwnedFd>, OsString), UnpackError> {
        let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() {
            return Ok((Rc::clone(&self.root), name));
        }
        if let Some((last, folder)) = &self.last
            && last == parent
        {
            return Ok((Rc::clone(folder), name));
        }
        let folder = match self.open_folder(parent) {
            Err(Errno::NOENT) => self.make_folders(parent),
            opened => opened,
        };
        let folder = Rc::new(folder.map_err(|error| match error {
            Errno::LOOP => UnpackError::Refused { path: path.display().to_string(), reason: "a path through a link" },
            error => at(path, error),
        })?);
        self.last = Some((parent.to_owned(), Rc::clone(&folder)));
        Ok((folder, name))
    }

    fn make_folders(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let mut sofar = PathBuf::new();
        let mut above: Option<OwnedFd> = None;
        for component in path.components() {
            sofar.push(component);
            let parent = above.as_ref().unwrap_or(&self.root);
            let mode = Mode::from_raw_mode(0o755);
            match mkdirat(parent, component.as_os_str(), mode) {
                Ok(()) => {
                    if let Some((uid, gid)) = self.owner {
                        let flags = AtFlags::SYMLINK_NOFOLLOW;
                        let name = component.as_os_str();
                        rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
                    }
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            above = Some(self.open_folder(&sofar)?);
        }
        above.ok_or(Errno::NOENT)
    }

    fn open_folder(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.root, path, flags, Mode::empty(), BENEATH)
    }
}

/// Removes what is in the way, unless it is a folder.
fn remove(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

fn is(parent: &OwnedFd, name: &OsStr, kind: FileType) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind)
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn at(path: &Path, error: Errno) -> UnpackError {
    UnpackError::Write { path: path.display().to_string(), source: error.into() }
}

/// Reading and writing are one operation here, and the reader's errors are known by the caller.
fn write_error(path: &Path, source: io::Error) -> UnpackError {
    UnpackError::Write { path: path.display().to_string(), source }
}
