//! Which files of a workspace some patterns mean.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat2, statat};

use crate::unpack::BENEATH;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// The entries selected so far, by path relative to the root.
pub(super) struct Selection {
    pub(super) root: OwnedFd,
    pub(super) entries: BTreeMap<PathBuf, Kind>,
    pub(super) unmatched: Vec<String>,
    pub(super) notes: Vec<String>,
    /// How often an entry was taken, also one that had been taken before.
    taken: usize,
}

impl Selection {
    pub(super) fn new(root: &Path) -> io::Result<Selection> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Selection { root, entries: BTreeMap::new(), unmatched: Vec::new(), notes: Vec::new(), taken: 0 })
    }

    /// Adds what `pattern` matches. A path that exists as it is written is no glob, whatever
    /// characters it has.
    pub(super) fn add(&mut self, pattern: &str) {
        let before = (self.taken, self.notes.len());
        let path = match relative(pattern) {
            Ok(path) => path,
            Err(reason) => {
                self.notes.push(format!("{pattern} was left out: {reason}."));
                return;
            }
        };
        if path.as_os_str().is_empty() {
            self.walk(&path, None);
        } else if let Some(kind) = self.kind(&path) {
            self.take(path, kind);
        } else {
            let glob = GlobBuilder::new(path.to_str().unwrap_or(pattern)).literal_separator(true).build();
            match glob {
                Ok(glob) => self.walk(&literal_part(&path), Some(&glob.compile_matcher())),
                Err(error) => self.notes.push(format!("{pattern} was left out: {error}.")),
            }
        }
        if (self.taken, self.notes.len()) == before {
            self.unmatched.push(pattern.to_owned());
        }
    }

    /// Takes an entry, with all it holds if it is a folder.
    fn take(&mut self, path: PathBuf, kind: Kind) {
        if kind == Kind::Folder {
            self.walk(&path, None);
        }
        self.entries.insert(path, kind);
        self.taken += 1;
    }

    /// Goes through a folder and takes what the glob matches, or everything.
    fn walk(&mut self, folder: &Path, glob: Option<&GlobMatcher>) {
        let Ok(names) = self.names(folder) else {
            if glob.is_none() {
                self.notes.push(format!("{} was left out: unreadable.", folder.display()));
            }
            return;
        };
        for name in names {
            let path = folder.join(OsStr::from_bytes(&name));
            let Some(kind) = self.kind(&path) else {
                continue;
            };
            match glob {
                Some(glob) if !glob.is_match(&path) => {
                    if kind == Kind::Folder {
                        self.walk(&path, Some(glob));
                    }
                }
                _ => self.take(path, kind),
            }
        }
    }

    fn names(&self, folder: &Path) -> rustix::io::Result<Vec<Vec<u8>>> {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(&self.root, folder, flags, Mode::empty(), BENEATH)?;
        let mut names = Vec::new();
        for entry in Dir::new(folder)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn kind(&self, path: &Path) -> Option<Kind> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = parent.unwrap_or(Path::new("."));
        let parent = openat2(&self.root, parent, flags, Mode::empty(), BENEATH).ok()?;
        let stat = statat(&parent, path.file_name()?, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        })
    }
}

/// The pattern as a path without `.` and trailing slashes.
fn relative(pattern: &str) -> Result<PathBuf, &'static str> {
    let mut path = PathBuf::new();
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("'..' leads out of the workspace"),
            Component::RootDir | Component::Prefix(_) => return Err("it is an absolute path"),
        }
    }
    Ok(path)
}

/// The leading components without special characters: only below them anything can match.
fn literal_part(path: &Path) -> PathBuf {
    path.components()
        .take_while(|part| !part.as_os_str().as_bytes().iter().any(|byte| b"*?[{\\".contains(byte)))
        .collect()
}
