//! Starts runners.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use buildit_runner::AttemptSpec;
use buildit_runner::layout::AttemptFolder;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::process::Command;

use super::{Error, Handle, LocalExecutor, State, Tried, if_there};

/// For how long a lock may be held by those who only look whether it is.
const PROBES_TAKE: Duration = Duration::from_millis(50);

impl LocalExecutor {
    /// Must be called within a Tokio runtime, which reaps the runner.
    pub(super) fn start_now(&self, mut spec: AttemptSpec) -> Result<Handle, Error> {
        let handle = Handle::new(&spec.attempt_id);
        let folder = self.folder(&handle)?;
        self.create_layout()?;
        self.check_reachable()?;
        loop {
            match self.state_now(&handle)? {
                State::Absent { begun: false } => {}
                // Also the one that is gone: it is lost, and waiting for it will tell.
                _ => return Ok(handle),
            }
            make_folder(folder.path())?;
            let lock = match take_lock(&folder)? {
                Lock::Taken(lock) => lock,
                Lock::Held => return Ok(handle),
                Lock::Cleaned => continue,
            };
            // Between the look and the lock another starter's attempt may have run its course.
            if self.begun_or_reported(&handle, &folder)? || !is_in_place(&lock, &folder) {
                continue;
            }
            spec.user = self.user;
            spec.durable = self.durable;
            spec.workspace = PathBuf::from("workspace");
            match self.spawn(&spec, &folder, lock) {
                // Cleaned meanwhile, which takes the marker first.
                Err(_) if self.begun_or_reported(&handle, &folder)? => {}
                spawned => return spawned.map(|()| handle),
            }
        }
    }

    pub(super) fn create_layout(&self) -> Result<(), Error> {
        let root = self.layout.root();
        self.layout.create(self.user.is_some()).tried(|| format!("{} cannot be made", root.display()))
    }

    fn begun_or_reported(&self, handle: &Handle, folder: &AttemptFolder) -> Result<bool, Error> {
        let begun = self.layout.has_begun(handle.attempt_id());
        let begun = begun.tried(|| "the marker cannot be looked for".to_owned())?;
        Ok(begun || folder.result().exists())
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

    /// Hands the lock to a new runner. The runner leads a session of its own from its first
    /// moment on and holds nothing of this process.
    fn spawn(&self, spec: &AttemptSpec, folder: &AttemptFolder, lock: File) -> Result<(), Error> {
        let cannot_write = || format!("{} cannot be written", folder.path().display());
        let text = serde_json::to_vec(spec).map_err(io::Error::from).tried(cannot_write)?;
        folder.write_whole(&folder.spec(), &text).tried(cannot_write)?;
        private_file(&folder.log()).tried(cannot_write)?;
        let errors = private_file(&folder.runner_errors()).tried(cannot_write)?;
        let mut runner = Command::new(&self.runner)
            .arg("run")
            .arg(self.layout.root())
            .arg(&spec.attempt_id)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .current_dir(folder.path())
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .stderr(Stdio::from(errors))
            .spawn()
            .tried(|| format!("{} cannot be started", self.runner.display()))?;
        tokio::spawn(async move { runner.wait().await });
        Ok(())
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).tried(|| format!("{} cannot be made", path.display()))
        }
        _ => Ok(()),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

/// What trying to take a lock comes to.
enum Lock {
    Taken(File),
    /// A runner or another starter has it.
    Held,
    /// There is no folder any more.
    Cleaned,
}

fn take_lock(folder: &AttemptFolder) -> Result<Lock, Error> {
    let what = || format!("{} cannot be locked", folder.lock().display());
    let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(folder.lock());
    let Some(lock) = if_there(lock).tried(what)? else { return Ok(Lock::Cleaned) };
    let give_up = Instant::now() + PROBES_TAKE;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock::Taken(lock)),
            Err(Errno::WOULDBLOCK) if Instant::now() >= give_up => return Ok(Lock::Held),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::yield_now(),
            Err(error) => return Err(error).tried(what),
        }
    }
}

/// Whether the locked file is still the one in the folder, which may have been cleaned meanwhile.
fn is_in_place(lock: &File, folder: &AttemptFolder) -> bool {
    match (lock.metadata(), fs::metadata(folder.lock())) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
