//! Ends a server together with its owner, however that one ends.
//!
//! A shell waits on a pipe whose other end the owner holds. A word says that the server has been seen
//! to; the end of the pipe without one says that the owner is gone.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

use crate::process::Process;

/// `$1` is the server's process id, `$2` the folder it works in, `$3` what to remove afterwards, or nothing.
const SCRIPT: &str = r#"
read -r seen_to && exit
tries=0
while [ "$(readlink "/proc/$1/cwd")" = "$2" ] && [ $tries -lt 50 ]; do
    kill -QUIT "$1"
    tries=$((tries + 1))
    sleep 0.1
done
[ -z "$3" ] || rm -rf -- "$3"
"#;

/// While this value lives, so does the server.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pipe: ChildStdin,
}

impl Watchdog {
    /// Watches over the server that works in `data`; with it ends `remove`, a folder.
    pub(crate) fn start(server: &Process, data: &Path, remove: Option<&Path>) -> Result<Watchdog> {
        use std::os::unix::process::CommandExt;

        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", SCRIPT, "watchdog"])
            .arg(server.pid().to_string())
            .arg(data)
            .arg(remove.unwrap_or(Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut shell = shell.spawn().context("cannot start /bin/sh")?;
        let pipe = shell.stdin.take().context("the shell has no input")?;
        // It outlives us on purpose, or ends at our word; nobody waits for it.
        std::thread::spawn(move || shell.wait());
        Ok(Watchdog { pipe })
    }

    /// The server has ended already.
    pub(crate) fn dismiss(mut self) {
        // A watchdog that is gone needs no word.
        self.pipe.write_all(b"seen to\n").ok();
    }
}
