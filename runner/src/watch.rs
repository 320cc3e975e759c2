//! What the runner must notice while it works: a request to stop, and children that ended.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify;
use rustix::process::Signal;

use crate::layout::AttemptFolder;

/// A stop is asked for by the file `stop` in the attempt's folder, whose content is a grace in
/// milliseconds, or by SIGTERM or SIGINT, which leave the grace to the attempt.
#[derive(Debug)]
pub(crate) struct Watch {
    stop_file: PathBuf,
    /// `None` where the system has no instance left; then the file is looked for now and then.
    folder: Option<OwnedFd>,
    stop_signals: UnixStream,
    child_signals: UnixStream,
    stop: Option<StopRequest>,
}

/// How much time the commands are given after TERM; `None` leaves it to the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopRequest {
    pub(crate) grace: Option<Duration>,
}

impl Watch {
    /// From here on nothing is missed. A `stop` that is already there counts.
    pub(crate) fn new(folder: &AttemptFolder) -> io::Result<Watch> {
        let watch = Watch {
            stop_file: folder.stop(),
            folder: watch_folder(folder),
            stop_signals: signals(&[Signal::TERM, Signal::INT])?,
            child_signals: signals(&[Signal::CHILD])?,
            stop: None,
        };
        Ok(Watch { stop: watch.read_stop_file(), ..watch })
    }

    /// What to poll for reading. A folder that cannot be watched is left out.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let folder = self.folder.as_ref().map(AsFd::as_fd);
        folder.into_iter().chain([self.stop_signals.as_fd(), self.child_signals.as_fd()])
    }

    /// How long a poll may take at most.
    pub(crate) fn longest_poll(&self) -> Option<Duration> {
        self.folder.is_none().then_some(Duration::from_millis(50))
    }

    /// The latest request to stop.
    pub(crate) fn stop(&mut self) -> Option<StopRequest> {
        if drain(&mut self.stop_signals) && self.stop.is_none() {
            self.stop = Some(StopRequest { grace: None });
        }
        let look = self.folder.as_ref().is_none_or(drain_inotify);
        if look && let Some(stop) = self.read_stop_file() {
            self.stop = Some(stop);
        }
        self.stop
    }

    /// Forgets the signals of children that ended; true if there were any.
    pub(crate) fn children_ended(&mut self) -> bool {
        drain(&mut self.child_signals)
    }

    fn read_stop_file(&self) -> Option<StopRequest> {
        let text = std::fs::read_to_string(&self.stop_file).ok()?;
        Some(StopRequest { grace: text.trim().parse().ok().map(Duration::from_millis) })
    }
}

fn watch_folder(folder: &AttemptFolder) -> Option<OwnedFd> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags).ok()?;
    inotify::add_watch(&watch, folder.path(), inotify::WatchFlags::MOVED_TO).ok()?;
    Some(watch)
}

fn signals(signals: &[Signal]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(signal.as_raw(), write.try_clone()?)?;
    }
    Ok(read)
}

/// Whether anything was there.
fn drain(stream: &mut UnixStream) -> bool {
    let mut any = false;
    while matches!(stream.read(&mut [0; 64]), Ok(1..)) {
        any = true;
    }
    any
}

/// Whether anything was there.
fn drain_inotify(watch: &OwnedFd) -> bool {
    let mut any = false;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    while reader.next().is_ok() {
        any = true;
    }
    any
}
