//! Starts runners.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use buildit_runner::AttemptSpec;
use buildit_runner::layout::AttemptFolder;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::process::Command;

use super::{Error, Handle, LocalExecutor, State, Tried};

impl LocalExecutor {
    /// Returns when the attempt has begun. Holds nothing meanwhile: a worker that is frozen here keeps nobody from
    /// starting it instead, and finds then that it has begun.
    pub(super) fn start_now(&self, mut spec: AttemptSpec) -> Result<Handle, Error> {
        let handle = Handle::new(&spec.attempt_id);
        let folder = self.folder(&handle)?;
        self.create_layout()?;
        self.check_reachable()?;
        if self.may_start(&handle)? {
            spec.user = self.user;
            spec.durable = self.durable;
            spec.workspace = PathBuf::from("workspace");
            make_folder(folder.path())?;
            crate::crash_point!("step: before its runner starts");
            let spawned = self.spawn(&spec, &folder);
            // Else somebody was quicker: began it, or fenced and cleaned it.
            if self.may_start(&handle)? {
                return Err(spawned.map_or_else(|error| error, |said| Error::Runner { said }));
            }
        }
        Ok(handle)
    }

    /// Also what is gone is not started: it is lost, and waiting for it will tell.
    fn may_start(&self, handle: &Handle) -> Result<bool, Error> {
        Ok(matches!(self.state_now(handle)?, State::Absent { begun: false }))
    }

    pub(super) fn create_layout(&self) -> Result<(), Error> {
        let root = self.layout.root();
        self.layout.create(self.user.is_some()).tried(|| format!("{} cannot be made", root.display()))
    }

    /// The user whom steps run as has to get to the workspace.
    fn check_reachable(&self) -> Result<(), Error> {
        let Some(user) = self.user else { return Ok(()) };
        for path in self.layout.attempts().ancestors() {
            let metadata = fs::metadata(path).tried(|| format!("{} cannot be looked at", path.display()))?;
            let shift = match (metadata.uid() == user.uid, metadata.gid() == user.gid) {
                (true, _) => 6,
                (false, true) => 3,
                (false, false) => 0,
            };
            if metadata.mode() >> shift & 1 == 0 {
                return Err(Error::Unreachable { path: path.to_owned() });
            }
        }
        Ok(())
    }

    /// Starts a runner, which leads a session of its own from its first moment on and holds nothing of this process, and
    /// waits until the attempt has begun or the runner has ended. Returns what it had to complain about.
    fn spawn(&self, spec: &AttemptSpec, folder: &AttemptFolder) -> Result<String, Error> {
        let cannot_start = || format!("{} cannot be started", self.runner.display());
        let text = serde_json::to_vec(spec).map_err(io::Error::from).tried(cannot_start)?;
        let (mut complaints, its_end) = io::pipe().tried(cannot_start)?;
        // The command holds the runner's end of the pipe and goes with this statement.
        let mut runner = Command::new(&self.runner)
            .arg("run")
            .arg(self.layout.root())
            .arg(&spec.attempt_id)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .current_dir(folder.path())
            .stdin(Stdio::from(in_memory(&text).tried(cannot_start)?))
            .stdout(Stdio::null())
            .stderr(Stdio::from(its_end))
            .spawn()
            .tried(cannot_start)?;
        tokio::spawn(async move { runner.wait().await });
        let mut said = Vec::new();
        complaints.read_to_end(&mut said).tried(|| "the runner cannot be heard".to_owned())?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }
}

/// A file without a name: what is secret in it never reaches a disk.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("spec", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn make_folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).tried(|| format!("{} cannot be made", path.display()))
        }
        _ => Ok(()),
    }
}
