//! Claims jobs for free slots: when notified, when a slot comes free, when a scheduled job is due, and when a beat saw
//! ready work that nobody told about.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use buildit_shared::queue::{Claim, Member, Signal, Signals, prune};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc::UnboundedSender, watch};
use tokio_util::sync::CancellationToken;

/// What a beat learnt that is of use for claiming.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hint {
    /// When the next scheduled job is due.
    pub(crate) next_due: Option<tokio::time::Instant>,
}

/// Where claims go, by queue.
pub(crate) type Channels = Arc<BTreeMap<&'static str, UnboundedSender<Claim>>>;

/// Hands a claim to the apalis worker of its queue.
pub(crate) fn dispatch(channels: &Channels, claim: Claim) {
    if let Some(channel) = channels.get(claim.job.queue.as_str()) {
        // A closed channel means that the worker stops: the claim is dropped and readied.
        let _ = channel.send(claim);
    }
}

pub(crate) struct Claimer {
    pub(crate) pool: PgPool,
    pub(crate) member: watch::Receiver<Option<Arc<Member>>>,
    pub(crate) hint: watch::Receiver<Hint>,
    pub(crate) backlog: Arc<Notify>,
    pub(crate) signals: Signals,
    pub(crate) channels: Channels,
    pub(crate) stopping: CancellationToken,
}

impl Claimer {
    pub(crate) async fn run(mut self) {
        let mut signals = self.signals.subscribe();
        let mut pause = Duration::from_millis(100);
        loop {
            let member = tokio::select! {
                () = self.stopping.cancelled() => return,
                member = self.member.wait_for(Option::is_some) => match member.as_deref() {
                    Ok(Some(member)) => Arc::clone(member),
                    _ => return,
                },
            };
            match self.claim(&member).await {
                // More may wait: a full batch came back.
                Ok(true) => continue,
                Ok(false) => pause = Duration::from_millis(100),
                Err(error) => {
                    tracing::warn!(%error, "claiming failed; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                    continue;
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = wake(&mut signals, &member) => {}
                () = member.slots().freed() => {}
                () = self.backlog.notified() => {}
                () = due(&mut self.hint) => {
                    if let Err(error) = self.promote(&member).await {
                        tracing::warn!(%error, "scheduled jobs could not be readied; trying again");
                        tokio::time::sleep(pause).await;
                    }
                }
                _ = self.member.changed() => {}
            }
        }
    }

    /// True when there may be more than the free slots could take.
    async fn claim(&self, member: &Arc<Member>) -> Result<bool, buildit_shared::queue::Error> {
        if !member.acting() {
            return Ok(false);
        }
        let slots = member.slots().take_all();
        if slots.is_empty() {
            return Ok(false);
        }
        let started = std::time::Instant::now();
        let claims = Claim::take(member, slots).await?;
        metrics::histogram!("buildit_claim_seconds").record(started.elapsed().as_secs_f64());
        for claim in claims {
            dispatch(&self.channels, claim);
        }
        Ok(false)
    }

    async fn promote(&self, member: &Arc<Member>) -> Result<(), sqlx::Error> {
        for queue in prune::promote(&self.pool).await? {
            member.notifier().jobs(&queue);
        }
        Ok(())
    }
}

/// Waits for a signal that concerns claiming; passes cancellations on to whoever works on the job.
async fn wake(signals: &mut buildit_shared::queue::listen::Subscription, member: &Member) {
    loop {
        match signals.next().await {
            Signal::Jobs(queue) if member.slots().sizes().any(|(served, _)| served == queue) => return,
            Signal::Resync => return,
            Signal::Cancel(job) => member.cancel(job),
            _ => {}
        }
    }
}

/// Waits until the next scheduled job is due; forever when there is none, until a beat knows of one.
async fn due(hint: &mut watch::Receiver<Hint>) {
    loop {
        let next_due = hint.borrow_and_update().next_due;
        tokio::select! {
            () = async {
                match next_due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => return,
            changed = hint.changed() => if changed.is_err() { std::future::pending::<()>().await },
        }
    }
}
