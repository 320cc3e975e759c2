//! How many jobs of each queue a worker runs at once. A claim holds a slot for as long as it lives.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// A worker's slots by queue.
#[derive(Clone, Debug)]
pub struct Slots {
    queues: Arc<BTreeMap<&'static str, (Arc<Semaphore>, usize)>>,
    freed: Arc<Notify>,
}

/// One slot; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    queue: &'static str,
    _permit: OwnedSemaphorePermit,
    freed: Arc<Notify>,
}

impl Slot {
    /// The queue it is for.
    pub fn queue(&self) -> &'static str {
        self.queue
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.freed.notify_one();
    }
}

impl Slots {
    /// So many slots for each queue.
    pub fn new(queues: impl IntoIterator<Item = (&'static str, usize)>) -> Self {
        let queues = queues.into_iter().map(|(queue, n)| (queue, (Arc::new(Semaphore::new(n)), n))).collect();
        Self { queues: Arc::new(queues), freed: Arc::new(Notify::new()) }
    }

    /// The queues with their sizes.
    pub fn sizes(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.queues.iter().map(|(queue, (_, n))| (*queue, *n))
    }

    /// A free slot, if there is one now.
    pub fn take(&self, queue: &str) -> Option<Slot> {
        let (queue, (semaphore, _)) = self.queues.get_key_value(queue)?;
        let permit = Arc::clone(semaphore).try_acquire_owned().ok()?;
        Some(Slot { queue, _permit: permit, freed: Arc::clone(&self.freed) })
    }

    /// All slots that are free now.
    pub fn take_all(&self) -> Vec<Slot> {
        self.queues.keys().flat_map(|queue| std::iter::from_fn(|| self.take(queue))).collect()
    }

    /// Waits until a slot came free since the last call.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }
}
