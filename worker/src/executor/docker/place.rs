//! Where attempts are on this machine.
//!
//! ```text
//! <root>/                    closed to other users
//!     attempts/<attempt>/    as in `buildit_runner::layout`; in the container at /buildit/attempts/<attempt>
//!     marks/<attempt>/begun/ holds the attempt's marker, which outlives the folder; at /buildit/begun
//!     trash/                 what is being removed
//! ```
//!
//! A step may be root in its container, and what is mounted there is at its mercy, its own attempt's folder and marker
//! and nothing else: so nothing in it is opened by way of a link, and what a report names is looked at first.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use buildit_runner::{
    AttemptSpec, Layout, Report,
    layout::{AttemptFolder, is_attempt_id},
};
use rustix::fs::OFlags;

use super::{Error, Handle};
use crate::executor::local::Tried;

/// The folders of an executor's attempts.
#[derive(Clone, Debug)]
pub(super) struct Place {
    layout: Layout,
    owner: String,
}

impl Place {
    pub(super) fn new(root: PathBuf) -> Self {
        let owner = root.to_string_lossy().into_owned();
        Self { layout: Layout::new(root), owner }
    }

    /// What tells this executor's containers from all others of the engine.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    pub(super) fn attempts(&self) -> PathBuf {
        self.layout.attempts()
    }

    pub(super) fn marks(&self) -> PathBuf {
        self.layout.root().join("marks")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.layout.root().join("trash")
    }

    pub(super) fn attempt(&self, attempt_id: &str) -> AttemptFolder {
        self.layout.attempt(attempt_id)
    }

    pub(super) fn folder(&self, handle: &Handle) -> Result<AttemptFolder, Error> {
        match is_attempt_id(handle.attempt_id()) {
            true => Ok(self.attempt(handle.attempt_id())),
            false => Err(Error::BadAttemptId(handle.attempt_id().to_owned())),
        }
    }

    /// Where the attempt's marker is.
    pub(super) fn mark(&self, attempt_id: &str) -> Layout {
        Layout::new(self.marks().join(attempt_id))
    }

    /// Whether the attempt may have run.
    pub(super) fn has_begun(&self, handle: &Handle) -> Result<bool, Error> {
        let mark = self.mark(handle.attempt_id());
        mark.has_begun(handle.attempt_id()).tried(|| "the marker cannot be looked for".to_owned())
    }

    /// Sees to it that nobody begins the attempt any more; false when somebody has.
    pub(super) fn forbid(&self, handle: &Handle, durable: bool) -> Result<bool, Error> {
        let cannot = || "the marker cannot be made".to_owned();
        self.make_mark(handle.attempt_id()).tried(cannot)?;
        self.mark(handle.attempt_id()).begin(handle.attempt_id(), durable).tried(cannot)
    }

    fn make_mark(&self, attempt_id: &str) -> io::Result<()> {
        let mark = self.mark(attempt_id);
        DirBuilder::new().recursive(true).mode(0o700).create(self.marks())?;
        make_open_folder(mark.root())?;
        make_open_folder(&mark.begun())
    }

    /// Makes the attempt's folder and all that its container needs of it. Files and folders are open to everybody who
    /// gets there, since nobody but the container does, and the engine may have its root be another user.
    pub(super) fn prepare(&self, spec: &AttemptSpec) -> Result<(), Error> {
        let folder = self.attempt(&spec.attempt_id);
        let make = || -> io::Result<()> {
            fs::create_dir_all(self.layout.root())?;
            fs::set_permissions(self.layout.root(), Permissions::from_mode(0o700))?;
            DirBuilder::new().recursive(true).mode(0o700).create(self.attempts())?;
            self.make_mark(&spec.attempt_id)?;
            make_open_folder(folder.path())?;
            make_open_folder(&folder.staged())?;
            make_open_folder(&folder.staged().join("artifacts"))?;
            for file in [folder.lock(), folder.log()] {
                let no_link = OFlags::NOFOLLOW.bits().cast_signed();
                let made = OpenOptions::new().create(true).append(true).custom_flags(no_link).open(file)?;
                made.set_permissions(Permissions::from_mode(0o666))?;
            }
            folder.write_whole(&folder.spec(), &serde_json::to_vec(spec)?)
        };
        make().tried(|| format!("{} cannot be prepared", folder.path().display()))
    }

    /// Whether what the report names is there, as files that the runner can have made. The container has to have ended.
    pub(super) fn holds(&self, folder: &AttemptFolder, report: &Report) -> bool {
        let artifacts = report.artifacts.iter().filter_map(|artifact| artifact.staged.as_ref());
        report.outputs.iter().chain(artifacts).all(|staged| is_own_file(folder.path(), Path::new(&staged.file)))
    }
}

fn make_open_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o777)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A file below `folder` with no link on the way.
fn is_own_file(folder: &Path, file: &Path) -> bool {
    let mut path = folder.to_owned();
    let mut parts = file.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return false };
        path.push(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else { return false };
        let right = if parts.peek().is_some() { metadata.is_dir() } else { metadata.is_file() };
        if !right {
            return false;
        }
    }
    path != folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_elsewhere_is_no_file_of_an_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("staged")).unwrap();
        fs::write(at("staged/a"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("staged/link")).unwrap();
        std::os::unix::fs::symlink("/etc", at("etc")).unwrap();
        assert!(is_own_file(folder.path(), Path::new("staged/a")));
        for not in ["", "staged", "staged/b", "staged/link", "etc/passwd", "/etc/passwd", "staged/../staged/a"] {
            assert!(!is_own_file(folder.path(), Path::new(not)), "{not}");
        }
    }
}
