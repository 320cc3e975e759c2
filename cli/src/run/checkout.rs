//! A clean copy of the working tree: what git tracks and what it would track, as the files are now,
//! and a `.git` with the commit that is checked out.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Fast; the copy is read once or a few times, on this machine.
const COMPRESSION: i32 = 1;

/// A git working tree and the commit that it is at.
#[derive(Debug)]
pub(super) struct WorkingTree {
    pub(super) root: PathBuf,
    pub(super) sha: String,
    /// A full name, or `HEAD` where no branch is checked out.
    pub(super) git_ref: String,
    pub(super) message: String,
    pub(super) author: String,
}

impl WorkingTree {
    /// The one that `path` is in.
    pub(super) fn open(path: &Path) -> Result<WorkingTree> {
        let facts = git(path, ["rev-parse", "--show-toplevel", "HEAD", "--symbolic-full-name", "HEAD"])
            .context("`buildit run` runs what is in a git repository with at least one commit")?;
        let facts = String::from_utf8(facts).context("the path of the repository is not UTF-8")?;
        let mut facts = facts.lines();
        let (Some(root), Some(sha), git_ref) = (facts.next(), facts.next(), facts.next()) else {
            bail!("git does not say where the repository is");
        };
        let commit = git(path, ["log", "-1", "--no-show-signature", "--format=%an <%ae>%n%s"])?;
        let commit = String::from_utf8_lossy(&commit).into_owned();
        let (author, message) = commit.split_once('\n').unwrap_or((&commit, ""));
        Ok(WorkingTree {
            root: PathBuf::from(root),
            sha: sha.to_owned(),
            git_ref: git_ref.unwrap_or("HEAD").to_owned(),
            message: message.trim_end().to_owned(),
            author: author.to_owned(),
        })
    }

    /// Packs the copy into the new file `target`; `scratch` is a folder for what lies between.
    pub(super) fn pack(&self, target: &Path, scratch: &Path) -> Result<()> {
        let clone = scratch.join("clone");
        let mut cloning = self.start_clone(&clone)?;
        let listed = git(&self.root, ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let file = File::create_new(target).with_context(|| format!("cannot write {}", target.display()))?;
        let mut archive = tar::Builder::new(zstd::Encoder::new(file, COMPRESSION)?);
        archive.follow_symlinks(false);
        let mut paths: Vec<&[u8]> = listed.split(|&byte| byte == 0).filter(|path| !path.is_empty()).collect();
        // A path with a conflict is listed once for each side.
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            self.append(&mut archive, Path::new(OsStr::from_bytes(path)))?;
        }
        ensure!(cloning.wait()?.success(), "git cannot copy the commit {}", self.sha);
        git(&clone, ["read-tree", "HEAD"])?;
        archive.append_dir_all(".git", clone.join(".git"))?;
        archive.into_inner()?.finish()?.sync_data().ok();
        fs::remove_dir_all(&clone)?;
        Ok(())
    }

    fn append(&self, archive: &mut tar::Builder<impl io::Write>, path: &Path) -> Result<()> {
        let full = self.root.join(path);
        let cannot = || format!("cannot copy {}", full.display());
        match fs::symlink_metadata(&full) {
            // Deleted, but not committed yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(cannot),
            // A submodule: git lists no more of it, and a clone without it is what steps get elsewhere.
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => archive.append_path_with_name(&full, path).with_context(cannot),
        }
    }

    /// Only this commit, without the repository's own settings: remotes may hold passwords.
    fn start_clone(&self, clone: &Path) -> Result<std::process::Child> {
        let mut source = std::ffi::OsString::from("file://");
        source.push(&self.root);
        Command::new("git")
            .args(["clone", "--quiet", "--depth=1", "--no-checkout", "--no-tags"])
            .args(["-c", "gc.auto=0", "--template="])
            .arg(source)
            .arg(clone)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot run git")
    }
}

fn git<const N: usize>(folder: &Path, arguments: [&str; N]) -> Result<Vec<u8>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments[0], said.trim());
    Ok(output.stdout)
}
