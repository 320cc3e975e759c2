//! Wakes up whoever waits for news of an attempt.

use std::time::Duration;

use buildit_runner::layout::AttemptFolder;
use futures::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::time::timeout;

/// A look at the state now and then, whatever the kernel says.
const SELDOM: Duration = Duration::from_secs(1);

/// Where the system has no watch left to give.
const WITHOUT_WATCH: Duration = Duration::from_millis(20);

/// The kernel tells that the lock file is closed just before it lets the lock go.
const AFTER_CLOSE: [Duration; 4] =
    [Duration::from_millis(32), Duration::from_millis(8), Duration::from_millis(2), Duration::from_micros(500)];

/// What to be woken up for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Interest {
    /// The report, or the runner's death.
    End,
    /// The log's growth, too.
    Log,
}

/// Changes in an attempt's folder. May wake up without reason; never misses one for long.
pub(super) struct Changes {
    events: Option<EventStream<[u8; 2048]>>,
    soon: Vec<Duration>,
}

impl Changes {
    /// From now on. A folder that is not there wakes up its watcher now and then.
    pub(super) fn of(folder: &AttemptFolder, interest: Interest) -> Changes {
        let mut mask = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::MOVE_SELF;
        if matches!(interest, Interest::Log) {
            mask |= WatchMask::MODIFY;
        }
        let watch = || {
            let inotify = Inotify::init()?;
            inotify.watches().add(folder.path(), mask)?;
            inotify.into_event_stream([0; 2048])
        };
        Changes { events: watch().ok(), soon: Vec::new() }
    }

    /// Returns after the next change.
    pub(super) async fn next(&mut self) {
        let Some(events) = &mut self.events else {
            tokio::time::sleep(WITHOUT_WATCH).await;
            return;
        };
        match timeout(self.soon.pop().unwrap_or(SELDOM), events.next()).await {
            Ok(Some(Ok(event))) => {
                let lock_closed =
                    event.mask.contains(EventMask::CLOSE_WRITE) && event.name.is_some_and(|name| name == "lock");
                if lock_closed {
                    self.soon = AFTER_CLOSE.to_vec();
                }
            }
            Ok(_) => self.events = None,
            Err(_) => {}
        }
    }
}
