//! Programs, repositories, waiting.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `buildit` in an environment without settings.
pub(crate) fn buildit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_buildit"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("BUILDIT_") || name.starts_with("GIT_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn said(command: &mut Command) -> Said {
    command.stdin(Stdio::null()).output().unwrap().into()
}

pub(crate) fn said_with_input(command: &mut Command, input: &[u8]) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program may refuse without reading everything.
    stdin.write_all(input).ok();
    drop(stdin);
    child.wait_with_output().unwrap().into()
}

/// Runs git with nothing of the machine's configuration; it has to succeed.
pub(crate) fn git<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> String {
    let said = try_git(folder, arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out.trim().to_owned()
}

pub(crate) fn try_git<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Said {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") || name.to_string_lossy().starts_with("BUILDIT_") {
            command.env_remove(name);
        }
    }
    command
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    said(&mut command)
}

/// Waits for something that another process does.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
