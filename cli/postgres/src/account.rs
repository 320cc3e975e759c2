//! Under which user the server runs.
//!
//! PostgreSQL refuses to run as root. The server then gets a number that no account has, so that it
//! shares its files and its process with nobody else on the machine, the steps of a run included.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The server needs no entry in /etc/passwd, only `initdb` does.
const SERVER: Account = Account { uid: 30080, gid: 30080 };

/// `initdb` looks its user's name up, and `nobody` is an account on every system.
const NOBODY: &str = "nobody";

/// Another user than the one who started us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The account that owns `data`, or the one to give it to. `None`: our own user does.
    ///
    /// # Errors
    /// When `data` belongs to someone whom we cannot become.
    pub(crate) fn of_server(data: &Path) -> Result<Option<Account>> {
        let own = rustix::process::geteuid();
        let owner = match fs::metadata(data) {
            Ok(metadata) => metadata,
            Err(_) => return Ok(own.is_root().then_some(SERVER)),
        };
        match (own.is_root(), owner.uid()) {
            (true, 0) => bail!(
                "{} belongs to root, as which PostgreSQL does not run: give it to another user (chown -R {} {0})",
                data.display(),
                SERVER.uid,
            ),
            (true, uid) => Ok(Some(Account { uid, gid: owner.gid() })),
            (false, uid) if uid == own.as_raw() => Ok(None),
            (false, uid) => bail!("{} belongs to user {uid}: start as root, or as that user", data.display(),),
        }
    }

    /// The account for `initdb`, when we are root.
    ///
    /// # Errors
    /// When this system has no `nobody`.
    pub(crate) fn of_initdb() -> Result<Option<Account>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let account = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (name == NOBODY).then_some(Account { uid, gid })
        });
        match account {
            Some(account) => Ok(Some(account)),
            None => bail!(
                "there is no account `{NOBODY}` in /etc/passwd, which a database is made with when started by root: add it, or start as another user"
            ),
        }
    }

    /// Makes `command` run as this account, without root's groups.
    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Whether this account can open what lies below `path`. Folders that do not exist yet will be
    /// ours to make.
    pub(crate) fn reaches(self, path: &Path) -> bool {
        path.ancestors().filter_map(|folder| fs::metadata(folder).ok()).all(|folder| {
            folder.permissions().mode() & 0o001 != 0
                || (folder.uid() == self.uid && folder.permissions().mode() & 0o100 != 0)
        })
    }
}
