//! A folder for one test's executors.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use buildit_runner::Layout;
use buildit_runner::layout::AttemptFolder;
use buildit_worker::executor::{Handle, LocalExecutor};

pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        // For what steps, which may run as another user, leave for the test to see.
        fs::create_dir(folder.path().join("shared")).unwrap();
        fs::set_permissions(folder.path().join("shared"), Permissions::from_mode(0o777)).unwrap();
        Place { folder }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.folder.path().join("shared").join(name)
    }

    pub(crate) fn executor(&self) -> LocalExecutor {
        executor(&self.root())
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.root())
    }

    pub(crate) fn attempt(&self, handle: &Handle) -> AttemptFolder {
        self.layout().attempt(handle.attempt_id())
    }

    /// The runner's process id, which only a test may use.
    pub(crate) fn runner_pid(&self, handle: &Handle) -> rustix::process::Pid {
        let lock = fs::read_to_string(self.attempt(handle).lock()).unwrap();
        rustix::process::Pid::from_raw(lock.lines().next().unwrap().parse().unwrap()).unwrap()
    }
}

pub(crate) fn executor(root: &Path) -> LocalExecutor {
    LocalExecutor::new(root.to_owned(), runner())
}

/// The runner of the same build: `BUILDIT_RUNNER`, or the one beside this test's folder.
fn runner() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().unwrap();
        test.parent().unwrap().with_file_name("buildit-runner")
    };
    let runner = std::env::var_os("BUILDIT_RUNNER").map_or_else(beside, PathBuf::from);
    assert!(runner.exists(), "{} is missing: cargo build -p buildit-runner", runner.display());
    runner
}
