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
    permit: Option<OwnedSemaphorePermit>,
    /// Told when a job has given it back; not when a claim found nothing for it, or an idle worker would claim in circles.
    freed: Option<Arc<Notify>>,
}

impl Slot {
    /// The queue it is for.
    pub fn queue(&self) -> &'static str {
        self.queue
    }

    /// Gives it back unused.
    pub(super) fn put_back(mut self) {
        self.freed = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Whoever is told finds it free.
        self.permit = None;
        if let Some(freed) = &self.freed {
            freed.notify_one();
        }
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
        Some(Slot { queue, permit: Some(permit), freed: Some(Arc::clone(&self.freed)) })
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_a_slot_that_a_job_gave_back_asks_for_the_next_claim() {
        let slots = Slots::new([("steps", 2)]);
        for slot in slots.take_all() {
            slot.put_back();
        }
        assert!(slots.freed().now_or_never().is_none(), "a claim that found nothing must not lead to another");
        drop(slots.take("steps"));
        assert!(slots.freed().now_or_never().is_some());
    }
}
