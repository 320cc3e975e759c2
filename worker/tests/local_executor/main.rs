//! The local executor, with the real runner.

#![allow(clippy::unwrap_used)]

mod conformance;

use std::path::PathBuf;

use buildit_worker::executor::LocalExecutor;

/// An executor in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder.path(), mode).unwrap();
        Place { folder }
    }

    fn executor(&self) -> LocalExecutor {
        LocalExecutor::new(self.folder.path().to_owned(), runner())
    }
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

#[tokio::test]
async fn conforms() {
    let place = Place::new();
    conformance::all(&place.executor()).await;
}
