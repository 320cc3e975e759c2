//! Wakes up whoever waits for news of an attempt.
//!
//! An executor has one inotify instance for all its attempts: there are few to be had (128 per
//! user by default), and closing one takes the kernel some ten milliseconds.

use std::collections::HashMap;
use std::ffi::c_int;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buildit_runner::layout::AttemptFolder;
use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::Notify;
use tokio::time::timeout;

/// A look at the state now and then, whatever the kernel says.
const SELDOM: Duration = Duration::from_secs(1);

/// Where the system has no watch left to give.
const WITHOUT_WATCH: Duration = Duration::from_millis(20);

/// The kernel tells that the lock file is closed just before it lets the lock go.
const AFTER_CLOSE: [Duration; 4] =
    [Duration::from_millis(32), Duration::from_millis(8), Duration::from_millis(2), Duration::from_micros(500)];

/// What to be woken up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::executor) enum Interest {
    /// The report, or the runner's death.
    End,
    /// The log's growth, too.
    Log,
}

/// Changes in an attempt's folder. May wake up without reason; never misses one for long.
pub(in crate::executor) struct Changes {
    subscription: Option<Subscription>,
    soon: Vec<Duration>,
}

impl Changes {
    /// Returns after the next change.
    pub(in crate::executor) async fn next(&mut self) {
        let Some(Subscription { subscriber, .. }) = &self.subscription else {
            tokio::time::sleep(WITHOUT_WATCH).await;
            return;
        };
        let wait = self.soon.pop().unwrap_or(SELDOM);
        // A change and the end of the wait are answered alike: by a look.
        let _ = timeout(wait, subscriber.changed.notified()).await;
        if subscriber.lock_closed.swap(false, Ordering::Relaxed) {
            self.soon = AFTER_CLOSE.to_vec();
        }
    }
}

/// The watched folders of one executor, and the thread that reads what the kernel tells of them.
pub(in crate::executor) struct Watcher {
    watches: Mutex<Watches>,
    /// A watch of nothing, whose end wakes up the thread.
    own: WatchDescriptor,
    subscribers: Mutex<Subscribers>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Subscribers(HashMap<c_int, Vec<Arc<Subscriber>>>);

struct Subscriber {
    interest: Interest,
    changed: Notify,
    lock_closed: AtomicBool,
}

struct Subscription {
    watcher: Arc<Watcher>,
    watch: WatchDescriptor,
    subscriber: Arc<Subscriber>,
}

impl Watcher {
    /// `None` where the system has no instance or thread left to give.
    pub(in crate::executor) fn start() -> Option<Arc<Watcher>> {
        let inotify = Inotify::init().ok()?;
        let own = inotify.watches().add("/", WatchMask::DELETE_SELF).ok()?;
        let watches = Mutex::new(inotify.watches());
        let watcher = Arc::new(Watcher { watches, own, subscribers: Mutex::default() });
        let weak = Arc::downgrade(&watcher);
        let read = move || read_events(inotify, || weak.upgrade());
        std::thread::Builder::new().name("attempts".to_owned()).stack_size(128 * 1024).spawn(read).ok()?;
        Some(watcher)
    }

    /// Changes from now on. A folder that is not there is looked at now and then.
    pub(in crate::executor) fn changes(
        watcher: Option<&Arc<Watcher>>,
        folder: &AttemptFolder,
        interest: Interest,
    ) -> Changes {
        let subscription = watcher.and_then(|watcher| watcher.subscribe(folder.path(), interest));
        Changes { subscription, soon: Vec::new() }
    }

    fn subscribe(self: &Arc<Watcher>, folder: &Path, interest: Interest) -> Option<Subscription> {
        let mask = WatchMask::MODIFY | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::MOVE_SELF;
        let subscriber = Subscriber { interest, changed: Notify::new(), lock_closed: AtomicBool::new(false) };
        let subscriber = Arc::new(subscriber);
        // Nothing is told to anybody before this one is on the list.
        let mut subscribers = lock(&self.subscribers);
        let watch = lock(&self.watches).add(folder, mask).ok()?;
        subscribers.0.entry(watch.get_watch_descriptor_id()).or_default().push(Arc::clone(&subscriber));
        Some(Subscription { watcher: Arc::clone(self), watch, subscriber })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Fails only when the thread is gone already.
        let _ = lock(&self.watches).remove(self.own.clone());
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscribers = lock(&self.watcher.subscribers);
        let id = self.watch.get_watch_descriptor_id();
        let Some(others) = subscribers.0.get_mut(&id) else { return };
        others.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
        if others.is_empty() {
            subscribers.0.remove(&id);
            // Fails when the folder is gone, and the watch with it.
            let _ = lock(&self.watcher.watches).remove(self.watch.clone());
        }
    }
}

impl Subscribers {
    fn tell(&mut self, event: &Event<&std::ffi::OsStr>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.0.values().flatten().for_each(|subscriber| subscriber.changed.notify_one());
            return;
        }
        let id = event.wd.get_watch_descriptor_id();
        let only_grown = event.mask.contains(EventMask::MODIFY);
        let lock_closed = event.mask.contains(EventMask::CLOSE_WRITE) && event.name.is_some_and(|name| name == "lock");
        for subscriber in self.0.get(&id).into_iter().flatten() {
            if lock_closed {
                subscriber.lock_closed.store(true, Ordering::Relaxed);
            }
            if !only_grown || subscriber.interest == Interest::Log {
                subscriber.changed.notify_one();
            }
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.0.remove(&id);
        }
    }
}

/// Reads until the watcher is gone, which the end of its own watch tells.
fn read_events(mut inotify: Inotify, watcher: impl Fn() -> Option<Arc<Watcher>>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let Ok(events) = inotify.read_events_blocking(&mut buffer) else { return };
        let Some(watcher) = watcher() else { return };
        let mut subscribers = lock(&watcher.subscribers);
        events.for_each(|event| subscribers.tell(&event));
    }
}

/// A panic in another thread leaves these maps as good as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
