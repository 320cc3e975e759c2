//! Repositories: one cached mirror per project, and the packed commit that steps unpack.
//!
//! Promises: one process at a time works on a mirror, and one that is frozen holds nobody up; locks that a killed git left
//! are cleared; the commit of a run stays reachable by a ref of its own, so that a forced push changes nothing for it; git
//! talks only https, ssh and to paths under the roots that the operator allows, never asks for anything, and never sees an
//! argument that it could take for an option.

mod credential;
mod recent;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use buildit_shared::{
    db::repository_credentials::Key,
    ids::{ProjectId, RunId},
};
use tokio::process::Command;

use credential::Handed;
pub use recent::Recent;

/// How many commits of history a step's checkout has.
const DEPTH: &str = "--depth=50";
/// What git calls the place of a ref that is not there.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
/// A lock file this old belongs to a git that is gone.
const STALE_LOCK: Duration = Duration::from_secs(5);
/// So long one waits for a mirror until its spare is used as well. A first fetch may take longer, a frozen worker does.
const MIRROR_TAKEN: Duration = Duration::from_secs(10);
/// So long one waits for either before the job is tried again later.
const BOTH_TAKEN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Longest time for one git command.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user's or the operator's to mend; trying again is of no use.
    #[error("{0}")]
    Refused(String),
    /// May work later: the network, the forge, the disk.
    #[error("{0}")]
    Failed(String),
    /// The worker's own disk.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Where mirrors live and what may be fetched.
#[derive(Clone, Debug)]
pub struct Repositories {
    /// Folder of the mirrors.
    pub folder: PathBuf,
    /// Paths under these may be fetched from; none when empty.
    pub roots: Vec<PathBuf>,
    /// What was fetched a moment ago.
    pub recent: Recent,
}

/// The commit of a run, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose mirror it goes to.
    pub project: ProjectId,
    /// Where it comes from.
    pub repository: &'a str,
    /// What opens that, if it is private.
    pub key: Option<&'a Key>,
    /// Who wants it.
    pub run: RunId,
    /// What points to it, unless
    pub git_ref: &'a str,
    /// the commit itself is known.
    pub sha: Option<&'a str>,
}

/// A commit that a run is pinned to.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Full SHA.
    pub sha: String,
    /// Its message.
    pub message: String,
    /// `Name <address>`.
    pub author: String,
}

/// A locked mirror that holds a run's commit.
#[derive(Debug)]
pub struct Mirror {
    path: PathBuf,
    /// The run's ref.
    pin: String,
    /// The commit.
    pub commit: Commit,
    _lock: File,
}

impl Repositories {
    /// Fetches the commit that is wanted and pins it for the run.
    pub async fn fetch(&self, wanted: Wanted<'_>) -> Result<Mirror, Error> {
        let Wanted { project, repository, key, run, git_ref, sha } = wanted;
        self.check(repository)?;
        let wanted = sha.unwrap_or(git_ref);
        if !is_sha(wanted) && !is_ref(wanted) {
            return Err(Error::Refused(format!("`{wanted}` is neither a commit nor a ref that git accepts")));
        }
        let asked = Instant::now();
        let (path, lock) = self.lock(project).await?;
        if !path.join("HEAD").exists() {
            git(None, &["init", "-q", "--bare", "--", &path.to_string_lossy()]).await?;
        }
        clear_stale_locks(&path).map_err(|source| Error::Io { what: "the mirror cannot be read", source })?;
        let pin = format!("refs/buildit/runs/{run}");
        // A run that is planned again keeps the commit that it was pinned to, so this only makes a pin.
        if let Some(commit) = self.recent.since(asked, &path, repository, wanted)
            && git(Some(&path), &["update-ref", &pin, &commit.sha, NO_COMMIT]).await.is_ok()
        {
            return Ok(Mirror { path, pin, commit, _lock: lock });
        }
        let begun = Instant::now();
        let mut fetched = false;
        if !has_commit(&path, &pin, sha).await {
            let refspec = format!("+{wanted}:{pin}");
            // A bare path may refuse commits that no ref points to, or belong to another user; it is ours to read.
            let upload_pack =
                "--upload-pack=git -c 'safe.directory=*' -c uploadpack.allowAnySHA1InWant=true upload-pack";
            let mut args = vec!["fetch", "-q", "--no-tags", "--no-write-fetch-head"];
            if Path::new(repository).is_absolute() {
                args.push(upload_pack);
            }
            args.extend(["--", repository, &refspec]);
            let handed = key.map(|key| Handed::new(key, repository)).transpose();
            let handed = handed.map_err(|source| Error::Io { what: "git cannot be given the credential", source })?;
            git_with(handed.as_ref(), Some(&path), &args)
                .await
                .map_err(|error| explain(error, repository, wanted, key))?;
            fetched = true;
        }
        let commit = describe(&path, &pin).await?;
        if fetched {
            self.recent.note(begun, &path, repository, wanted, &commit);
        }
        Ok(Mirror { path, pin, commit, _lock: lock })
    }

    /// The project's mirror, or its spare while somebody has that for long.
    async fn lock(&self, project: ProjectId) -> Result<(PathBuf, File), Error> {
        let io = |source| Error::Io { what: "the mirror cannot be locked", source };
        fs::create_dir_all(&self.folder).map_err(io)?;
        let begun = Instant::now();
        let mirrors = [project.to_string(), format!("{project}.spare")];
        loop {
            let usable = if begun.elapsed() < MIRROR_TAKEN { 1 } else { 2 };
            for name in &mirrors[..usable] {
                let path = self.folder.join(format!("{name}.lock"));
                let lock = File::options().create(true).truncate(false).write(true).open(path).map_err(io)?;
                match lock.try_lock() {
                    Ok(()) => return Ok((self.folder.join(format!("{name}.git")), lock)),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(source)) => return Err(io(source)),
                }
            }
            if begun.elapsed() > BOTH_TAKEN {
                return Err(Error::Failed("other workers have this project's mirrors for long".into()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn check(&self, repository: &str) -> Result<(), Error> {
        if Path::new(repository).is_absolute() {
            let real = fs::canonicalize(repository)
                .map_err(|error| Error::Refused(format!("the repository {repository} cannot be read: {error}")))?;
            let allowed = self.roots.iter().any(|root| fs::canonicalize(root).is_ok_and(|root| real.starts_with(root)));
            return if allowed {
                Ok(())
            } else {
                Err(Error::Refused(format!(
                    "the repository {repository} lies outside the folders that the operator allows (repository_roots)"
                )))
            };
        }
        let remote = repository.starts_with("https://") || repository.starts_with("ssh://");
        if repository.starts_with('-') || !(remote || is_scp_like(repository)) {
            return Err(Error::Refused(format!("{repository} is not a path, an https:// or an ssh:// address")));
        }
        Ok(())
    }
}

impl Mirror {
    /// The file at the pinned commit; `None` when it is not there.
    pub async fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let object = format!("{}:{name}", self.pin);
        match git(Some(&self.path), &["cat-file", "blob", &object]).await {
            Ok(output) => Ok(Some(output.stdout)),
            Err(Error::Failed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The paths of the commit's files that lie at most one folder deep, at most `most` of them.
    pub async fn files(&self, most: usize) -> Result<Vec<String>, Error> {
        let output = git(Some(&self.path), &["ls-tree", "-r", "-z", "--name-only", "--full-tree", &self.pin]).await?;
        let paths = output.stdout.split(|byte| *byte == 0).filter_map(|path| std::str::from_utf8(path).ok());
        Ok(paths.filter(|path| !path.is_empty() && path.matches('/').count() <= 1).take(most).map(Into::into).collect())
    }

    /// Lets go of the commit: nothing here needs it any more.
    pub async fn unpin(self) -> Result<(), Error> {
        git(Some(&self.path), &["update-ref", "-d", &self.pin]).await.map(drop)
    }

    /// A checkout of the commit with its `.git`, in `folder` (made here): what a step sees at its workspace.
    pub async fn check_out(&self, folder: &Path, branch: Option<&str>) -> Result<(), Error> {
        let name = folder.to_string_lossy();
        git(None, &["init", "-q", "--", &name]).await?;
        let from = format!("file://{}", self.path.display());
        git(Some(folder), &["fetch", "-q", "--no-tags", DEPTH, "--", &from, &self.pin]).await?;
        match branch.filter(|branch| is_branch(branch)) {
            Some(branch) => git(Some(folder), &["checkout", "-q", "-B", branch, "FETCH_HEAD"]).await?,
            None => git(Some(folder), &["checkout", "-q", "--detach", "FETCH_HEAD"]).await?,
        };
        Ok(())
    }
}

async fn has_commit(mirror: &Path, pin: &str, sha: Option<&str>) -> bool {
    let pinned = git(Some(mirror), &["rev-parse", "-q", "--verify", &format!("{pin}^{{commit}}")]).await;
    pinned.is_ok_and(|output| {
        let pinned = String::from_utf8_lossy(&output.stdout);
        // A run that is planned again keeps the commit it was pinned to.
        sha.is_none_or(|sha| sha == pinned.trim())
    })
}

async fn describe(mirror: &Path, pin: &str) -> Result<Commit, Error> {
    let output = git(Some(mirror), &["log", "-1", "--format=%H%x00%an <%ae>%x00%B", pin, "--"]).await?;
    let text = String::from_utf8_lossy(&output.stdout).replace('\u{fffd}', "?");
    let mut parts = text.splitn(3, '\0');
    let mut next = || parts.next().unwrap_or_default().trim().to_owned();
    Ok(Commit { sha: next(), author: next(), message: next() })
}

/// What git's word means for the run: whose it is to mend, and how.
fn explain(error: Error, repository: &str, wanted: &str, key: Option<&Key>) -> Error {
    let Error::Failed(text) = &error else { return error };
    let says = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if says(&["couldn't find remote ref", "not our ref", "unadvertised object", "no such remote ref"]) {
        return Error::Refused(format!(
            "{wanted} is not in {repository}, or not any more; push it, or start a run of something else"
        ));
    }
    if says(&["Host key verification failed", "host key is known for"]) {
        return Error::Refused(format!(
            "the host of {repository} shows another key than the project's credential knows it by; if it has a new one, set \
             the credential anew with what `ssh-keyscan` prints of it, then try again"
        ));
    }
    if says(&[
        "could not read Username",
        "could not read Password",
        "Authentication failed",
        "Permission denied",
        "error: 403",
    ]) {
        let what = match key {
            None => "is private, and the project has no credential for it",
            Some(Key::Token { .. }) => {
                "does not open to the project's token: it is wrong, has expired, or may not read it"
            }
            Some(Key::Ssh { .. }) => {
                "does not open to the project's SSH key: it is not among the repository's deploy keys"
            }
        };
        return Error::Refused(format!("{repository} {what}; set the project's credential, then try again"));
    }
    if says(&["does not appear to be a git repository", "not found", "does not exist"]) {
        let or = if key.is_some() { ", or the project's credential may not see it" } else { ", or it is private" };
        let or = if Path::new(repository).is_absolute() { "" } else { or };
        return Error::Refused(format!("{repository} is not a git repository that this worker can read{or}: {text}"));
    }
    error
}

/// `user@host:path`. Not `helper::address`, by which git would run a program named `git-remote-helper`.
fn is_scp_like(text: &str) -> bool {
    let host = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._-".contains(&b));
    text.split_once(':')
        .is_some_and(|(before, path)| host(before) && !path.is_empty() && !path.starts_with([':', '/', '-']))
}

fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether git's commands take it for the name of a branch; it can be pushed under some that they do not.
fn is_branch(text: &str) -> bool {
    is_ref(text) && !["HEAD", "@"].contains(&text)
}

/// The rules of git-check-ref-format, as far as they matter for safety.
fn is_ref(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 1024
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && !text.ends_with(".lock")
        && !text.bytes().any(|b| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b))
}

/// Removes `*.lock` files that a killed git left behind; ours is the only git that works on this mirror.
fn clear_stale_locks(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != "objects" {
            clear_stale_locks(&path)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "lock") {
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if age > STALE_LOCK {
                fs::remove_file(&path)?;
                tracing::warn!(path = %path.display(), "removed a lock that a killed git left");
            }
        }
    }
    Ok(())
}

/// Where git is. Named by its path it is started without a copy of this process, which a search in a `PATH` set for it needs.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join("git")).find(|program| program.is_file());
        found.unwrap_or_else(|| "git".into())
    })
}

async fn git(folder: Option<&Path>, args: &[&str]) -> Result<Output, Error> {
    git_with(None, folder, args).await
}

/// Runs git with nothing of this process's environment but what it needs, and no way to ask anybody anything but for what
/// it is handed.
async fn git_with(handed: Option<&Handed>, folder: Option<&Path>, args: &[&str]) -> Result<Output, Error> {
    let mut command = Command::new(program());
    if let Some(folder) = folder {
        command.arg("-C").arg(folder);
    }
    // The data folder may belong to another user than the one the worker runs as.
    command.args(["-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "core.hooksPath=/dev/null"]);
    command.args(handed.map_or(&[][..], |handed| &handed.options));
    command.args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    for name in ["PATH", "HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "HTTPS_PROXY"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "file:https:ssh").env("LC_ALL", "C.UTF-8");
    if let Some(ssh) = handed.and_then(|handed| handed.ssh_command.as_ref()) {
        command.env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh").env_remove("SSH_AUTH_SOCK");
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = tokio::time::timeout(TIMEOUT, command.output())
        .await
        .map_err(|_| Error::Failed(format!("git {} took longer than {} s", args[0], TIMEOUT.as_secs())))?
        .map_err(|source| Error::Io { what: "git cannot be started; is it installed?", source })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = handed.map_or_else(|| said.clone().into_owned(), |handed| handed.shown(&said));
    Err(Error::Failed(format!("git {} failed: {}", args[0], said.trim().chars().take(2000).collect::<String>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_that_git_could_misread_are_refused() {
        for good in ["main", "refs/heads/main", "feature/a-b_c", "v1.0"] {
            assert!(is_ref(good), "{good}");
        }
        for bad in ["", "-x", "--upload-pack=x", "a..b", "a b", "a\nb", "a:b", "x.lock", "a@{1}", "/a", "a/", "a*"] {
            assert!(!is_ref(bad), "{bad}");
        }
    }

    #[test]
    fn who_is_to_mend_a_refusal_is_said() {
        let token = Key::Token { username: "ci".into(), token: "x".into() };
        let ssh = Key::Ssh { private_key: "x".into(), known_hosts: "x".into() };
        let said = |text: &str, key| match explain(Error::Failed(text.into()), "https://git.example/a", "main", key) {
            Error::Refused(reason) => reason,
            other => panic!("{text}: {other:?}"),
        };
        let asks = "fatal: could not read Username for 'https://git.example': terminal prompts disabled";
        assert!(said(asks, None).contains("is private, and the project has no credential"));
        let wrong = "fatal: Authentication failed for 'https://git.example/a/'";
        assert!(said(wrong, Some(&token)).contains("does not open to the project's token"));
        assert!(
            said("git@git.example: Permission denied (publickey).", Some(&ssh))
                .contains("among the repository's deploy keys")
        );
        assert!(said("Host key verification failed.", Some(&ssh)).contains("ssh-keyscan"));
        let hidden = "remote: Not found.\nfatal: repository 'https://git.example/a/' not found";
        assert!(said(hidden, Some(&token)).contains("the project's credential may not see it"));
        let away =
            explain(Error::Failed("Could not resolve host: git.example".into()), "https://git.example/a", "main", None);
        assert!(matches!(away, Error::Failed(_)), "it may be back later");
    }

    #[test]
    fn branches_that_git_does_not_call_so_are_told_apart() {
        assert!(is_branch("main") && is_branch("FETCH_HEAD") && is_branch("refs/heads/main"));
        assert!(!is_branch("HEAD") && !is_branch("@") && !is_branch("-q"));
    }

    #[test]
    fn repositories_outside_the_allowed_roots_are_refused() {
        let inside = tempfile::tempdir().unwrap();
        let repositories = Repositories {
            folder: "/nonexistent".into(),
            roots: vec![inside.path().to_owned()],
            recent: Recent::default(),
        };
        assert!(repositories.check(&inside.path().to_string_lossy()).is_ok());
        for bad in
            ["/etc", "ext::sh -c id", "file:///etc", "http://example.org/a.git", "-oProxyCommand=id", "git://h/a"]
        {
            assert!(matches!(repositories.check(bad), Err(Error::Refused(_))), "{bad}");
        }
        let sneaky = format!("{}/../../etc", inside.path().display());
        assert!(matches!(repositories.check(&sneaky), Err(Error::Refused(_))));
        assert!(repositories.check("https://example.org/a.git").is_ok());
        assert!(repositories.check("git@example.org:a.git").is_ok());
    }
}
