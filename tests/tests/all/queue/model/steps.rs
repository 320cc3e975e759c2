//! What may happen to the queue.

use std::time::Duration;

use buildit_shared::queue::NewJob;
use buildit_tests::queue::{Left, Right};
use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::{DELAY, SLOTS, WORKERS};

#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) queue: usize,
    pub(super) priority: i16,
    pub(super) delayed: bool,
    pub(super) key: Option<u8>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Enqueue(Vec<Spec>),
    Claim {
        worker: usize,
        queue: usize,
        slots: usize,
    },
    End(Index, How),
    /// With a claim that was lost or ended before.
    EndLate(Index, How),
    /// Nobody knows of the claim any more: its reply was lost.
    Forget(Index),
    Beat(usize),
    /// Somebody saw the worker stand still, at this beat or at the one before.
    Die {
        worker: usize,
        moved: bool,
    },
    Cancel(Index),
    Pause(usize),
    Resume(usize),
    /// Every delay has passed.
    Later,
    Promote,
    Prune,
}

#[derive(Clone, Debug)]
pub(super) enum How {
    Complete { follow_up: Vec<Spec>, in_transaction: bool },
    Retry { delayed: bool },
    Snooze { delayed: bool },
    Bury(Vec<Spec>),
}

fn spec() -> impl Strategy<Value = Spec> {
    let key = option::weighted(0.3, 0..3u8);
    (0..2usize, -1..=1i16, prop::bool::weighted(0.2), key).prop_map(|(queue, priority, delayed, key)| Spec {
        queue,
        priority,
        delayed,
        key,
    })
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => (vec(spec(), 0..3), any::<bool>())
            .prop_map(|(follow_up, in_transaction)| How::Complete { follow_up, in_transaction }),
        1 => any::<bool>().prop_map(|delayed| How::Retry { delayed }),
        1 => any::<bool>().prop_map(|delayed| How::Snooze { delayed }),
        1 => vec(spec(), 0..2).prop_map(How::Bury),
    ]
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let (worker, queue) = (0..WORKERS, 0..2usize);
    prop_oneof![
        6 => vec(spec(), 1..5).prop_map(Step::Enqueue),
        10 => (worker.clone(), queue.clone(), 1..=SLOTS)
            .prop_map(|(worker, queue, slots)| Step::Claim { worker, queue, slots }),
        6 => (any::<Index>(), how()).prop_map(|(claim, how)| Step::End(claim, how)),
        2 => (any::<Index>(), how()).prop_map(|(claim, how)| Step::EndLate(claim, how)),
        2 => any::<Index>().prop_map(Step::Forget),
        2 => worker.clone().prop_map(Step::Beat),
        3 => (worker, prop::bool::weighted(0.2)).prop_map(|(worker, moved)| Step::Die { worker, moved }),
        1 => any::<Index>().prop_map(Step::Cancel),
        1 => queue.clone().prop_map(Step::Pause),
        3 => queue.prop_map(Step::Resume),
        1 => Just(Step::Later),
        1 => Just(Step::Promote),
        1 => Just(Step::Prune),
    ]
}

impl Spec {
    pub(super) fn job(&self) -> NewJob {
        let job = if self.queue == 0 { NewJob::new(&Left {}) } else { NewJob::new(&Right {}) };
        let job = job.priority(self.priority).after(if self.delayed { DELAY } else { Duration::ZERO });
        match self.key {
            Some(key) => job.unique(key.to_string()),
            None => job,
        }
    }
}

impl How {
    pub(super) fn jobs(&self) -> Vec<NewJob> {
        match self {
            Self::Complete { follow_up, .. } | Self::Bury(follow_up) => follow_up.iter().map(Spec::job).collect(),
            Self::Retry { .. } | Self::Snooze { .. } => Vec::new(),
        }
    }
}
