//! Makes the workspace: folders, the checkout, and the outputs of other steps over it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::layout::AttemptFolder;
use crate::spec::AttemptSpec;
use crate::unpack::{Limits, UnpackError, unpack};
use crate::watch::Watch;

/// Why there is no workspace.
#[derive(Debug)]
pub(crate) enum NotPrepared {
    Stopped,
    Failed(String),
}

/// Returns the workspace, still without checkout and inputs.
pub(crate) fn prepare(spec: &AttemptSpec, folder: &AttemptFolder) -> Result<PathBuf, NotPrepared> {
    let workspace = folder.path().join(&spec.workspace);
    let_the_step_through(spec, folder).map_err(|error| failed(folder.path(), &error))?;
    for path in [&workspace, &folder.home()] {
        make_for_step(path, spec).map_err(|error| failed(path, &error))?;
    }
    Ok(workspace)
}

/// Unpacks checkout and inputs from the files that the spec names.
pub(crate) fn unpack_files(spec: &AttemptSpec, workspace: &Path, watch: &mut Watch) -> Result<(), NotPrepared> {
    let archives = spec.checkout.iter().chain(&spec.inputs);
    for archive in archives {
        let mut stopped = || watch.stop().is_some();
        match unpack(archive, workspace, spec.user, &Limits::default(), &mut stopped) {
            Ok(()) => {}
            Err(UnpackError::Interrupted) => return Err(NotPrepared::Stopped),
            Err(error) => return Err(failed(archive, &error)),
        }
    }
    Ok(())
}

fn failed(what: &Path, error: &dyn std::fmt::Display) -> NotPrepared {
    NotPrepared::Failed(format!("{}: {error}", what.display()))
}

/// A step under another user passes through the attempt's folder, but can neither list nor change
/// it.
fn let_the_step_through(spec: &AttemptSpec, folder: &AttemptFolder) -> io::Result<()> {
    let Some(user) = spec.user else { return Ok(()) };
    chown(folder.path(), None, Some(user.gid))?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o710))
}

fn make_for_step(path: &Path, spec: &AttemptSpec) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match spec.user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}
