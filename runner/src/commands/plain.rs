//! Runs commands in images without a shell, in the shell's place.
//!
//! It is a process of its own, between the runner and the commands, as a shell would be: it echoes
//! each command, runs it, and leaves with the exit code of the first that fails.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::words::{NotSplit, expand, split};
use crate::mask::Masker;
use crate::spec::AttemptSpec;

/// The first argument that makes this program run what is planned.
pub const RUN_PLAIN: &str = "run-plain";

/// The exit codes by which shells say that there is no such program, and that it cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// What is left to do once the commands are known to need no shell.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    workspace: PathBuf,
    progress: PathBuf,
    commands: Vec<Planned>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Planned {
    shown: String,
    command: String,
}

/// Whether there is a shell. A file that cannot be executed is none.
pub(super) fn has_shell() -> bool {
    let shell = Path::new("/bin/sh");
    shell.is_file() && rustix::fs::access(shell, rustix::fs::Access::EXEC_OK).is_ok()
}

/// What takes the place of the script. `Err` names the first command that takes a shell.
pub(super) fn plan(spec: &AttemptSpec, workspace: &Path, progress: &Path) -> Result<Vec<u8>, String> {
    let mut commands = Vec::new();
    for (index, command) in spec.commands.iter().enumerate() {
        let shown = spec.shown.get(index).unwrap_or(command).trim_end();
        let refused = |reason: String| masked(spec, format!("Command {} (`{}`) {reason}", index + 1, beginning(shown)));
        if command.contains('\0') || shown.contains('\0') {
            return Err(format!("command {} contains a NUL character", index + 1));
        }
        split(command).map_err(|error| match error {
            NotSplit::Shell(what) => refused(format!(
                "needs a shell for {what}, and the image has no /bin/sh. Use an image with a shell, or make it one \
                 program with its arguments."
            )),
            NotSplit::Broken(what) => refused(format!("cannot be split into words: {what}.")),
        })?;
        commands.push(Planned { shown: shown.to_owned(), command: command.clone() });
    }
    let plan = Plan { workspace: workspace.to_owned(), progress: progress.to_owned(), commands };
    serde_json::to_vec(&plan).map_err(|error| error.to_string())
}

/// The first line, not too long.
fn beginning(command: &str) -> String {
    let line = command.trim_start().lines().next().unwrap_or_default();
    match line.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < command.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

/// The log is not the only place that a secret must not reach.
fn masked(spec: &AttemptSpec, text: String) -> String {
    let Ok(mut masker) = Masker::new(&spec.secrets) else { return text };
    let mut masked = Vec::new();
    masker.feed(text.as_bytes(), &mut masked);
    masker.finish(&mut masked);
    String::from_utf8_lossy(&masked).into_owned()
}

/// Runs the commands that are planned in the file `step` here, and returns the exit code.
pub fn run_plain(parent: &str) -> u8 {
    match super::shell::die_with(parent).and_then(|()| run()) {
        Ok(code) => code,
        Err(error) => {
            say(&mut io::stderr(), &format!("step: {error}"));
            NOT_FOUND
        }
    }
}

fn run() -> io::Result<u8> {
    let plan: Plan = serde_json::from_slice(&std::fs::read("step")?)?;
    std::env::set_current_dir(&plan.workspace)?;
    for Planned { shown, command } in plan.commands {
        OpenOptions::new().append(true).open(&plan.progress)?.write_all(b".")?;
        say(&mut io::stdout(), &format!("$ {shown}"));
        let words = split(&command).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let value = |name: &str| std::env::var_os(name).map_or_else(Vec::new, OsString::into_vec);
        let mut words = expand(&words, value).into_iter().map(OsString::from_vec);
        let Some(program) = words.next() else { continue };
        match run_one(&program, words) {
            0 => {}
            code => return Ok(code),
        }
    }
    Ok(0)
}

fn run_one(program: &OsString, arguments: impl Iterator<Item = OsString>) -> u8 {
    let status = match Command::new(program).args(arguments).status() {
        Ok(status) => status,
        Err(error) => {
            let program = String::from_utf8_lossy(program.as_bytes());
            let (code, why) = match error.kind() {
                io::ErrorKind::NotFound => {
                    (NOT_FOUND, "not found; the image has no shell with such a command either".to_owned())
                }
                _ => (NOT_RUN, error.to_string()),
            };
            say(&mut io::stderr(), &format!("step: {program}: {why}"));
            return code;
        }
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Nobody to tell it to is no reason to end.
fn say(out: &mut impl Write, line: &str) {
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}
