//! A clean copy of the working tree: what git tracks and what it would track, as the files are now,
//! and a `.git` with the commit that is checked out and some history, which the server's checkouts have too.
//!
//! The `.git` is written by hand around a pack, since a clone of a small repository takes longer than all
//! else here together. It has none of the repository's own settings: remotes may hold passwords.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Fast; the copy is read once or a few times, on this machine.
const COMPRESSION: i32 = 1;

/// How many commits of history the copy has.
const DEPTH: &str = "--max-count=50";

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
        let commit = start(path, &["log", "-1", "--no-show-signature", "--format=%an <%ae>%x00%B"])?;
        let facts = start(path, &["rev-parse", "--show-toplevel", "HEAD", "--symbolic-full-name", "HEAD"])?;
        let facts = end(facts).context("`buildit run` runs what is in a git repository with at least one commit")?;
        let facts = String::from_utf8(facts).context("the path of the repository is not UTF-8")?;
        let mut facts = facts.lines();
        let (Some(root), Some(sha), git_ref) = (facts.next(), facts.next(), facts.next()) else {
            bail!("git does not say where the repository is");
        };
        let commit = String::from_utf8_lossy(&end(commit)?).into_owned();
        let (author, message) = commit.split_once('\0').unwrap_or((&commit, ""));
        Ok(WorkingTree {
            root: PathBuf::from(root),
            sha: sha.to_owned(),
            git_ref: git_ref.unwrap_or("HEAD").to_owned(),
            message: message.trim().to_owned(),
            author: author.to_owned(),
        })
    }

    /// Packs the copy into the new file `target`; `scratch` is a folder for what lies between.
    pub(super) fn pack(&self, target: &Path, scratch: &Path) -> Result<()> {
        let git_dir = scratch.join("git");
        let packs = git_dir.join("objects/pack");
        fs::create_dir_all(&packs).with_context(|| format!("cannot make {}", packs.display()))?;
        let mut listing = start(&self.root, &["rev-list", "--objects", DEPTH, "HEAD"])?;
        let objects = listing.stdout.take().context("git has no output")?;
        // By way of standard output, since git would write beside the repository's own packs first.
        let packing = git(&self.root, &["pack-objects", "-q", "--window=0", "--stdout"])
            .stdin(objects)
            .stdout(File::create_new(packs.join("pack-1.pack"))?)
            .spawn()
            .context("cannot run git")?;
        let history = start(&self.root, &["rev-list", "--parents", DEPTH, "HEAD"])?;
        let files = start(&self.root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;

        let file = File::create_new(target).with_context(|| format!("cannot write {}", target.display()))?;
        let mut archive = tar::Builder::new(zstd::Encoder::new(file, COMPRESSION)?);
        archive.follow_symlinks(false);
        self.append_files(&mut archive, &end(files)?)?;
        self.write_git_dir(&git_dir, &end(history)?)?;
        end(listing)?;
        end(packing)?;
        end(start(&git_dir, &["--git-dir=.", "index-pack", "objects/pack/pack-1.pack"])?)?;
        end(start(&git_dir, &["--git-dir=.", "read-tree", "HEAD"])?)?;
        archive.append_dir_all(".git", &git_dir)?;
        archive.into_inner()?.finish()?;
        Ok(())
    }

    /// `listed` are the paths, each with a NUL behind it.
    fn append_files(&self, archive: &mut tar::Builder<impl io::Write>, listed: &[u8]) -> Result<()> {
        // A path with a conflict is listed once for each side.
        let paths: BTreeSet<&[u8]> = listed.split(|&byte| byte == 0).filter(|path| !path.is_empty()).collect();
        for path in paths {
            let path = Path::new(OsStr::from_bytes(path));
            let full = self.root.join(path);
            let cannot = || format!("cannot copy {}", full.display());
            match fs::symlink_metadata(&full) {
                // Deleted, but not committed yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // A submodule: a checkout without it is what steps get elsewhere.
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => archive.append_path_with_name(&full, path).with_context(cannot)?,
                Err(error) => return Err(error).with_context(cannot),
            }
        }
        Ok(())
    }

    /// All but the objects and the index. A line of `history` is a commit and its parents.
    fn write_git_dir(&self, git_dir: &Path, history: &[u8]) -> Result<()> {
        let history = String::from_utf8_lossy(history);
        let commits: BTreeSet<&str> = history.lines().filter_map(|line| line.split(' ').next()).collect();
        let mut shallow = String::new();
        for line in history.lines() {
            let mut ids = line.split(' ');
            let commit = ids.next().unwrap_or_default();
            if ids.any(|parent| !commits.contains(parent)) {
                shallow += &format!("{commit}\n");
            }
        }
        let config = match self.sha.len() {
            40 => "[core]\n\trepositoryformatversion = 0\n\tbare = false\n",
            _ => "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n\tobjectformat = sha256\n",
        };
        let id = format!("{}\n", self.sha);
        let write = |path: &str, content: &str| -> Result<()> {
            let path = git_dir.join(path);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| fs::write(&path, content)).with_context(|| format!("cannot write {}", path.display()))
        };
        write("config", config)?;
        fs::create_dir_all(git_dir.join("refs/heads"))?;
        match self.git_ref.starts_with("refs/heads/") {
            true => {
                write(&self.git_ref, &id)?;
                write("HEAD", &format!("ref: {}\n", self.git_ref))?;
            }
            false => write("HEAD", &id)?,
        }
        if !shallow.is_empty() {
            write("shallow", &shallow)?;
        }
        Ok(())
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(folder: &Path, arguments: &[&str]) -> Result<Child> {
    git(folder, arguments).spawn().context("cannot run git")
}

/// What it has printed.
fn end(child: Child) -> Result<Vec<u8>> {
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    ensure!(status.success(), "git: {}", String::from_utf8_lossy(&stderr).trim());
    Ok(stdout)
}
