//! The engine of `./dev cluster up`.

use std::{env, fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use buildit_worker::executor::{
    DockerExecutor,
    docker::{Pull, Settings},
};
use tempfile::TempDir;

pub(super) const BUSYBOX: &str = "buildit.test/busybox:1";
pub(super) const NOSHELL: &str = "buildit.test/noshell:1";

/// A folder for one test's executors.
pub(super) struct Place {
    folder: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("buildit-test-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("containers")
    }

    pub(super) fn executor(&self) -> DockerExecutor {
        self.executor_with(settings())
    }

    pub(super) fn executor_with(&self, settings: Settings) -> DockerExecutor {
        DockerExecutor::new(self.root(), settings)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove_containers_of(&self.root());
    }
}

/// What a test that failed has left goes, so that it is in nobody's way.
pub(super) fn remove_containers_of(root: &std::path::Path) {
    let left = containers_of(root);
    if !left.is_empty() {
        remove(&left.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// The names of the containers that executors with this folder have.
pub(super) fn containers_of(root: &std::path::Path) -> Vec<String> {
    let label = format!("label=platform.io/folder={}", root.display());
    let names = docker(&["ps", "--all", "--filter", &label, "--format", "{{.Names}}"]);
    names.lines().map(str::to_owned).collect()
}

pub(super) fn settings() -> Settings {
    Settings {
        host: Some(host()),
        runner: Some(variable("BUILDIT_TEST_POD_PROGRAMS").into()),
        pull: Pull::Missing,
        ..Settings::default()
    }
}

pub(super) fn host() -> String {
    variable("BUILDIT_TEST_DOCKER_HOST")
}

pub(super) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("no {name}: run `./dev test --all`, or see docs/test-cluster.md"))
}

/// Removes containers by hand, which a worker that sees them end may be doing as well.
pub(super) fn remove(names: &[&str]) {
    let mut command = Command::new("docker");
    let output = command.arg("--host").arg(host()).args(["rm", "--force", "--volumes"]).args(names).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("is already in progress"), "{names:?}: {said}");
}

/// Asks the engine as a person would; it has to work.
pub(super) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").arg("--host").arg(host()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
