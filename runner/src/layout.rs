//! Where an attempt keeps what, and who may write it.
//!
//! ```text
//! <root>/begun/<attempt>             made once, by whoever may run the attempt; outlives the folder
//! <root>/attempts/<attempt>/
//!     lock                           flock held by the runner for life; its pid and boot id
//!     spec.json                      from the starter, for a container; its runner removes it once it has begun
//!     stop                           from the starter: "end it", with a grace in milliseconds
//!     log                            from the runner, masked, only ever appended to
//!     runner.err                     what the runner itself had to complain about
//!     result.json                    the runner's last word, renamed into place
//!     step                           the script that the shell reads
//!     progress                       one byte per command begun, from the script
//!     home/  workspace/              the commands' own
//!     staged/                        what was packed
//! ```
//!
//! An attempt's state is decided by `result.json`, the lock and the marker in `begun`, in this
//! order; never by a process id. A starter holds nothing, so that one which is frozen holds nobody up.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A root folder that holds attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Nothing is created yet. `root` has to be absolute.
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the attempts' folders are.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts")
    }

    /// Where the markers are.
    pub fn begun(&self) -> PathBuf {
        self.root.join("begun")
    }

    /// One attempt's folder.
    pub fn attempt(&self, attempt_id: &str) -> AttemptFolder {
        AttemptFolder { path: self.attempts().join(attempt_id) }
    }

    /// One attempt's marker.
    pub fn marker(&self, attempt_id: &str) -> PathBuf {
        self.begun().join(attempt_id)
    }

    /// Makes `attempts` and `begun`. `traversable` lets other users pass through (but not list)
    /// them, which steps under another user need.
    pub fn create(&self, traversable: bool) -> io::Result<()> {
        std::fs::create_dir_all(&self.root)?;
        let mode = if traversable { 0o711 } else { 0o700 };
        for (path, mode) in [(self.attempts(), mode), (self.begun(), 0o700)] {
            match DirBuilder::new().mode(mode).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the attempt's one-time marker, and, if it is to be `durable`, makes it outlast a power
    /// cut. `false`: somebody has it already, and the attempt must not run (again).
    pub fn begin(&self, attempt_id: &str, durable: bool) -> io::Result<bool> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.marker(attempt_id));
        match made {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(error),
        }
        if durable {
            std::fs::File::open(self.begun())?.sync_all()?;
        }
        Ok(true)
    }

    /// Whether somebody has the attempt's marker.
    pub fn has_begun(&self, attempt_id: &str) -> io::Result<bool> {
        self.marker(attempt_id).try_exists()
    }
}

/// Whether `attempt_id` can name a folder: ASCII letters, digits and dashes, up to 64.
pub fn is_attempt_id(attempt_id: &str) -> bool {
    !attempt_id.is_empty()
        && attempt_id.len() <= 64
        && attempt_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// One attempt's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFolder {
    path: PathBuf,
}

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        impl AttemptFolder {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.path.join($file) })*
        }
    };
}

files! {
    /// Held locked by the runner for life.
    lock = "lock";
    /// The [`crate::AttemptSpec`], where standard input cannot bring it.
    spec = "spec.json";
    /// The request to stop.
    stop = "stop";
    /// The masked log.
    log = "log";
    /// The runner's own standard error.
    runner_errors = "runner.err";
    /// The [`crate::Report`].
    result = "result.json";
    /// The script the shell reads.
    script = "step";
    /// One byte per command begun.
    progress = "progress";
    /// `HOME` of the commands.
    home = "home";
    /// Where packed files go.
    staged = "staged";
}

impl AttemptFolder {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `bytes` under a temporary name and renames it to `target`, one of this folder's
    /// files: a reader sees all of it or nothing. What a step may have put under either name is not followed. Everybody
    /// who gets into the folder may read it.
    pub fn write_whole(&self, target: &Path, bytes: &[u8]) -> io::Result<()> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}.{write}", std::process::id()));
        let temporary = PathBuf::from(name);
        // Left by a process of this number that was killed, if at all.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        file.write_all(bytes)?;
        drop(file);
        std::fs::rename(&temporary, target)
    }
}

/// The id of this boot of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
