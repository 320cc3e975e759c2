//! Deliveries on disk, in the order in which they were pushed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::repository::write_durably;

/// How often a lock is tried again that another process holds.
const ASK: Duration = Duration::from_millis(10);

/// One ref of one push, as the server gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Made once, here; the server makes one run for it, however often it comes.
    pub(crate) delivery: Uuid,
    #[serde(rename = "ref")]
    pub(crate) git_ref: String,
    /// Zeros for a new ref.
    pub(crate) before: String,
    pub(crate) after: String,
}

/// A folder of deliveries.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
}

/// A delivery and its place in the spool.
#[derive(Debug, Clone)]
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    pub(crate) delivery: Delivery,
}

/// Held until it is dropped, or its process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What the locks of a spool are for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// Giving out places.
    Add,
    /// Sending, so that deliveries arrive in their order.
    Deliver,
    /// Being the one process that goes on in the background.
    Background,
}

impl Spool {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Spool> {
        fs::create_dir_all(folder.join("refused"))?;
        Ok(Spool { folder })
    }

    /// Puts deliveries behind all others; they are on disk when this returns.
    pub(crate) fn add(&self, deliveries: &[Delivery]) -> io::Result<()> {
        let _lock = self.lock(Purpose::Add, Duration::from_secs(5))?.ok_or(io::ErrorKind::TimedOut)?;
        let last = self.names()?.iter().filter_map(|name| place(name)).max().unwrap_or(0);
        for (place, delivery) in (last + 1..).zip(deliveries) {
            let name = format!("{place:010}-{}.json", delivery.delivery);
            write_durably(&self.folder.join(name), &serde_json::to_vec(delivery)?)?;
        }
        Ok(())
    }

    /// What waits, in order. A file that is no delivery is put aside.
    pub(crate) fn waiting(&self) -> io::Result<Vec<Spooled>> {
        let mut waiting = Vec::new();
        for name in self.names()? {
            let path = self.folder.join(name);
            let content = match fs::read(&path) {
                Ok(content) => content,
                // Another deliverer was quicker.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match serde_json::from_slice(&content) {
                Ok(delivery) => waiting.push(Spooled { path, delivery }),
                Err(error) => self.set_aside(&path, &format!("not a delivery: {error}"))?,
            }
        }
        Ok(waiting)
    }

    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        Ok(self.names()?.is_empty())
    }

    /// The server has it.
    pub(crate) fn done(&self, spooled: &Spooled) -> io::Result<()> {
        gone_is_fine(fs::remove_file(&spooled.path))
    }

    /// The server does not want it, now or later.
    pub(crate) fn refused(&self, spooled: &Spooled, answer: &str) -> io::Result<()> {
        self.set_aside(&spooled.path, answer)
    }

    /// Puts the refused ones back in their places; returns how many.
    pub(crate) fn restore_refused(&self) -> io::Result<usize> {
        let mut restored = 0;
        for entry in fs::read_dir(self.folder.join("refused"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                if let Some(name) = path.file_name() {
                    fs::rename(&path, self.folder.join(name))?;
                    restored += 1;
                }
                gone_is_fine(fs::remove_file(path.with_extension("answer")))?;
            }
        }
        Ok(restored)
    }

    /// Waits up to `patience` for other processes. `None`: one of them still holds it.
    pub(crate) fn lock(&self, purpose: Purpose, patience: Duration) -> io::Result<Option<Lock>> {
        let name = match purpose {
            Purpose::Add => "add.lock",
            Purpose::Deliver => "deliver.lock",
            Purpose::Background => "background.lock",
        };
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(self.folder.join(name))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Lock { _file: file })),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(ASK),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn set_aside(&self, path: &Path, answer: &str) -> io::Result<()> {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let refused = self.folder.join("refused").join(name);
        write_durably(&refused.with_extension("answer"), answer.as_bytes())?;
        gone_is_fine(fs::rename(path, refused))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn place(name: &str) -> Option<u64> {
    name.split('-').next()?.parse().ok()
}

/// Another deliverer may have been quicker.
fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
