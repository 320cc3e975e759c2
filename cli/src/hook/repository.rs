//! What is kept beside a repository, in the folder `buildit` of its git directory:
//!
//! ```text
//! hook.json     where to deliver, and for which project
//! key           the key that allows it, for its owner alone
//! spool/        deliveries that the server has not taken yet
//! spool/refused/  those that it does not want, each with its answer
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Where the hooks deliver to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) url: url::Url,
    pub(crate) project: String,
    /// The pipeline file that `pre-receive` looks at.
    pub(crate) file: String,
}

/// A repository on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    git_dir: PathBuf,
}

impl Repository {
    /// Finds the git directory of `path`, which may also be a working tree.
    pub(crate) fn open(path: &Path) -> Result<Repository> {
        ensure!(path.exists(), "{} does not exist", path.display());
        let output = Command::new("git")
            .arg("-C")
            .arg(path)
            .args(["rev-parse", "--absolute-git-dir"])
            .stdin(Stdio::null())
            .output()
            .context("cannot run git")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} is not a git repository that can be used: {}", path.display(), said.trim());
        }
        let printed = String::from_utf8(output.stdout).context("its path is not UTF-8")?;
        Ok(Repository { git_dir: PathBuf::from(printed.trim_end_matches('\n')) })
    }

    /// The bare repository in this folder.
    pub(crate) fn bare(folder: &Path) -> Repository {
        Repository { git_dir: folder.to_owned() }
    }

    /// The repository that git has called us for.
    pub(crate) fn of_hook() -> Result<Repository> {
        let git_dir = std::env::var_os("GIT_DIR").unwrap_or_else(|| ".".into());
        let git_dir = fs::canonicalize(git_dir).context("cannot find the repository")?;
        Ok(Repository { git_dir })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.git_dir
    }

    /// The folder of its hooks. A folder that several repositories share is refused.
    pub(crate) fn hooks(&self) -> Result<PathBuf> {
        let shared = Command::new("git")
            .arg("--git-dir")
            .arg(&self.git_dir)
            .args(["config", "core.hooksPath"])
            .output()
            .context("cannot run git")?;
        let path = String::from_utf8_lossy(&shared.stdout);
        ensure!(
            path.trim().is_empty(),
            "core.hooksPath of {} is {}: git would not call hooks of this repository alone. Unset it, or call `buildit hook \
             post-receive` from the hook there",
            self.git_dir.display(),
            path.trim(),
        );
        let hooks = self.git_dir.join("hooks");
        fs::create_dir_all(&hooks).with_context(|| format!("cannot create {}", hooks.display()))?;
        Ok(hooks)
    }

    /// Our folder, made when it is missing, closed to others.
    pub(crate) fn make_folder(&self) -> Result<PathBuf> {
        let folder = self.folder();
        fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.folder().join("spool")
    }

    pub(crate) fn target(&self) -> Result<Target> {
        let path = self.folder().join("hook.json");
        let content = fs::read(&path).with_context(|| self.unreadable(&path))?;
        serde_json::from_slice(&content)
            .with_context(|| format!("{} is damaged: run `buildit hook install` again", path.display()))
    }

    pub(crate) fn key(&self) -> Result<String> {
        let path = self.folder().join("key");
        let key = fs::read_to_string(&path).with_context(|| self.unreadable(&path))?;
        Ok(key.trim().to_owned())
    }

    pub(crate) fn write_target(&self, target: &Target) -> Result<()> {
        let content = serde_json::to_vec_pretty(target)?;
        self.write("hook.json", &content)
    }

    pub(crate) fn write_key(&self, key: &str) -> Result<()> {
        self.write("key", key.as_bytes())
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.make_folder()?.join(name);
        write_durably(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    fn folder(&self) -> PathBuf {
        self.git_dir.join("buildit")
    }

    fn unreadable(&self, path: &Path) -> String {
        format!(
            "cannot read {}: run `buildit hook install {}` as the user who receives pushes",
            path.display(),
            self.git_dir.display()
        )
    }
}

/// Whole or not at all, and on disk when this returns.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
