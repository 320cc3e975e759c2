//! The durable queue. It promises:
//!
//! - a job is never lost and never ends twice: a claim is one statement, every claim has a fresh random lease, and a
//!   job ends only `WHERE id = … AND lease = … AND state = 'running'`, in the transaction of its domain change;
//! - a handler can return only what ending its claim gave it ([`Ended`]), so forgetting to end a job does not compile;
//! - a dead worker's jobs move on within seconds, a living one's are left alone however long they run ([`rescue`]);
//! - back-off lives in `run_at`, pauses in `queues`, priorities in the order of a claim; nothing is kept in memory
//!   that a crash may not lose.

mod claim;
mod complete;
mod ended;
mod enqueue;
pub mod listen;
mod member;
pub mod prune;
pub mod rescue;
mod slots;

pub use claim::{Claim, Job};
pub use ended::{Ended, JobError};
pub use enqueue::{NewJob, enqueue, enqueue_and_wake, enqueue_now};
pub use listen::{Notifier, Signal, Signals, Wake};
pub use member::{Beat, Member, Profile, beat, goodbye, register};
pub use slots::Slots;

/// What can go wrong between a worker and the queue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The claim is not ours any more: whatever was about to be written belongs to someone else now.
    #[error("the lease on this job was lost; another worker has it")]
    LeaseLost,
    /// The database did not do what it was asked.
    #[error("the database did not answer as expected: {0}")]
    Database(#[from] sqlx::Error),
}
