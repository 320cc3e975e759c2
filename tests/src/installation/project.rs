//! A project's repository, and the working tree it is pushed to from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A project with its bare repository.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// The repository.
    pub repository: PathBuf,
    pub(super) work: PathBuf,
}

impl Project {
    /// Commits these files on top of what is there and pushes `main`; returns the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        self.commit_as("a change", files)
    }

    /// [`Project::commit`] with a message of one's own.
    pub fn commit_as(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (name, text) in files {
            let path = self.work.join(name);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).expect("a folder");
            }
            fs::write(path, text).expect("a file");
        }
        git(&self.work, &["add", "-A"]);
        git(&self.work, &["commit", "-q", "--allow-empty", "-m", message]);
        git(&self.work, &["push", "-q", &self.repository.to_string_lossy(), "main"]);
        git(&self.work, &["rev-parse", "HEAD"])
    }

    /// Pushes these refspecs; returns what the pusher's terminal shows.
    pub fn push(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "safe.directory=*", "push"])
            .arg(&self.repository)
            .args(arguments)
            .current_dir(&self.work)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Its working tree, for git commands of a test's own.
    pub fn work(&self) -> &Path {
        &self.work
    }
}

/// Runs git as nobody in particular and returns what it printed.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "-c", "user.name=A", "-c", "user.email=a@example.org"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
