//! Removes attempts.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use buildit_runner::layout::AttemptFolder;

use super::state::is_locked;
use super::{Error, Handle, LocalExecutor, State, Swept, Tried, if_there};

/// A runner lets its lock go a moment after its report is there.
const RUNNER_EXIT: Duration = Duration::from_secs(2);

/// What a step that nobody wants gets between TERM and KILL.
pub(in crate::executor) const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// No start comes later than this after its attempt was made; then the marker can go, too.
pub(in crate::executor) const MARKERS_KEPT: Duration = Duration::from_secs(60 * 60 * 24 * 90);

impl LocalExecutor {
    pub(super) fn clean_now(&self, handle: &Handle) -> Result<(), Error> {
        let folder = self.folder(handle)?;
        refuse_while_it_runs(&folder)?;
        self.create_layout()?;
        // From here on nobody starts it any more. Who began it just before has the lock.
        self.layout.begin(handle.attempt_id(), self.durable).tried(|| "the marker cannot be made".to_owned())?;
        refuse_while_it_runs(&folder)?;
        let trash = self.trash();
        let cannot = || format!("{} cannot be removed", folder.path().display());
        fs::create_dir_all(&trash).tried(cannot)?;
        static CLEANED: AtomicU64 = AtomicU64::new(0);
        let number = CLEANED.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{}.{number}", handle.attempt_id(), std::process::id());
        // Gone at once for everybody else, however much there is to remove.
        let aside = trash.join(name);
        if if_there(fs::rename(folder.path(), &aside)).tried(cannot)?.is_some() {
            remove_all(&aside).tried(cannot)?;
        }
        Ok(())
    }

    pub(super) async fn sweep_all(
        &self,
        keep: &(dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let attempts = self.layout.attempts();
        let unwanted = self.blocking(move |_| old_names(&attempts, older_than)).await?;
        for attempt_id in unwanted.into_iter().filter(|attempt_id| !keep(attempt_id)) {
            let stopped = self.blocking(move |executor| executor.sweep_one(attempt_id)).await?;
            match stopped {
                (attempt_id, true) => swept.stopped.push(attempt_id),
                (attempt_id, false) => swept.cleaned.push(attempt_id),
            }
        }
        let begun = self.layout.begun();
        let markers = self.blocking(move |_| old_names(&begun, MARKERS_KEPT)).await?;
        let markers: Vec<_> = markers.into_iter().filter(|marker| !keep(marker)).collect();
        self.blocking(move |executor| executor.empty_trash(&markers)).await?;
        Ok(swept)
    }

    /// Whether the attempt ran and was asked to stop, instead of being cleaned.
    fn sweep_one(&self, attempt_id: String) -> Result<(String, bool), Error> {
        let handle = Handle::new(&attempt_id);
        if matches!(self.state_now(&handle)?, State::Starting | State::Running) {
            self.stop_now(&handle, ORPHAN_GRACE)?;
            return Ok((attempt_id, true));
        }
        if matches!(self.state_now(&handle)?, State::Lost { .. }) {
            self.confirm_ended_now(&handle)?;
        }
        self.clean_now(&handle)?;
        Ok((attempt_id, false))
    }

    /// Removes what interrupted cleanings have left, and the given markers.
    fn empty_trash(&self, markers: &[String]) -> Result<(), Error> {
        let cannot = || "what was removed before cannot be removed for good".to_owned();
        for marker in markers {
            if_there(fs::remove_file(self.layout.marker(marker))).tried(cannot)?;
        }
        for name in old_names(&self.trash(), Duration::ZERO)? {
            remove_all(&self.trash().join(name)).tried(cannot)?;
        }
        Ok(())
    }

    fn trash(&self) -> PathBuf {
        self.layout.root().join("trash")
    }
}

fn refuse_while_it_runs(folder: &AttemptFolder) -> Result<(), Error> {
    let give_up = Instant::now() + RUNNER_EXIT;
    while is_locked(folder)? {
        if !folder.result().exists() || Instant::now() >= give_up {
            return Err(Error::StillRunning);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// The names in a folder whose files were last changed that long ago.
pub(in crate::executor) fn old_names(folder: &Path, older_than: Duration) -> Result<Vec<String>, Error> {
    let cannot = || format!("{} cannot be listed", folder.display());
    let Some(entries) = if_there(fs::read_dir(folder)).tried(cannot)? else {
        return Ok(Vec::new());
    };
    let now = SystemTime::now();
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.tried(cannot)?;
        let Some(metadata) = if_there(entry.metadata()).tried(cannot)? else {
            continue;
        };
        let changed = metadata.modified().tried(cannot)?;
        // A time in the future has no age.
        let age = now.duration_since(changed).unwrap_or_default();
        if let (true, Ok(name)) = (age >= older_than, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a folder, also one with folders inside that are closed to their owner.
pub(in crate::executor) fn remove_all(path: &Path) -> io::Result<()> {
    match if_there(fs::remove_dir_all(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path)?;
            if_there(fs::remove_dir_all(path)).map(drop)
        }
        removed => removed.map(drop),
    }
}

fn open_folders(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}
