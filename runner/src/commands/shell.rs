//! Starts the shell, or what takes its place, by way of this program itself: between the fork and the shell somebody has
//! to ask the kernel to kill the shell when the runner dies.

use std::convert::Infallible;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::plain;
use super::script::script;
use crate::layout::AttemptFolder;
use crate::spec::{ATTEMPT_ID_VARIABLE, AttemptSpec};

/// The first argument that makes this program become a shell.
pub const BECOME_SHELL: &str = "become-shell";

/// Starts the shell that runs the attempt's commands and prints into `output`. `Err` says for
/// people why it cannot be.
pub(super) fn start(
    spec: &AttemptSpec,
    folder: &AttemptFolder,
    workspace: &Path,
    output: OwnedFd,
) -> Result<Child, String> {
    check_environment(spec)?;
    let (argument, text) = match plain::has_shell() {
        true => (BECOME_SHELL, script(&spec.commands, &spec.shown, workspace, &folder.progress())?.into_bytes()),
        false => (plain::RUN_PLAIN, plain::plan(spec, workspace, &folder.progress())?),
    };
    write_for_step(&folder.script(), &text, 0o640, spec, false)
        .and_then(|()| write_for_step(&folder.progress(), b"", 0o600, spec, true))
        .map_err(|error| format!("the step's script cannot be written: {error}"))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args([argument, &std::process::id().to_string()])
        .env_clear()
        .env("HOME", folder.home())
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(&spec.environment)
        .env(ATTEMPT_ID_VARIABLE, &spec.attempt_id)
        .current_dir(folder.path())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|error| error.to_string())?)
        .stderr(output);
    if let Some(user) = spec.user {
        command.uid(user.uid).gid(user.gid);
    }
    command.spawn().map_err(|error| format!("the shell cannot be started: {error}"))
}

/// The other half of starting the shell, in the new process. Returns only when it failed.
pub fn become_shell(parent: &str) -> io::Result<Infallible> {
    die_with(parent)?;
    // By a relative name, since the shell puts it before each of its messages.
    Err(Command::new("/bin/sh").arg0("sh").arg("step").exec())
}

/// Has the kernel kill this process when the runner dies.
pub(super) fn die_with(parent: &str) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    match now.as_deref() == Some(parent) {
        true => Ok(()),
        false => Err(io::Error::other("the runner has died")),
    }
}

fn check_environment(spec: &AttemptSpec) -> Result<(), String> {
    for (name, value) in &spec.environment {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{name:?} is no name for an environment variable"));
        }
        if value.contains('\0') {
            return Err(format!("the environment variable {name} contains a NUL character"));
        }
    }
    Ok(())
}

/// Writes a file that the step's user may read, and write if it `owns` it.
fn write_for_step(path: &Path, bytes: &[u8], mode: u32, spec: &AttemptSpec, owns: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    if let Some(user) = spec.user {
        std::os::unix::fs::fchown(&file, owns.then_some(user.uid), Some(user.gid))?;
    }
    Ok(())
}

/// How many commands the shell has begun.
pub(super) fn commands_begun(folder: &AttemptFolder) -> usize {
    let len = fs::metadata(folder.progress()).map(|progress| progress.len()).unwrap_or(0);
    usize::try_from(len).unwrap_or(usize::MAX)
}
