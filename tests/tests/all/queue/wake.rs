//! The word that jobs are ready, carried by the transaction that makes them so.

use buildit_shared::{
    jobs::JobArgs,
    queue::{NewJob, Notifier, Signal, Signals, enqueue_and_wake},
};
use buildit_tests::queue::{Left, Queue};

#[tokio::test]
async fn the_word_is_out_with_the_commit_and_not_without_it() {
    let queue = Queue::new().await;
    let signals = Signals::listen(&queue.database.url).unwrap();
    let mut heard = signals.subscribe();
    assert_eq!(heard.next().await, Signal::Resync, "it listens");
    let jobs = [NewJob::new(&Left {})];

    let mut refused = queue.pool.begin().await.unwrap();
    enqueue_and_wake(&mut *refused, &jobs, &Notifier::new(queue.pool.clone()).wake("refused")).await.unwrap();
    refused.rollback().await.unwrap();

    let mut tx = queue.pool.begin().await.unwrap();
    let wake = Notifier::new(queue.pool.clone()).wake(Left::QUEUE);
    enqueue_and_wake(&mut *tx, &jobs, &wake).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(heard.next().await, Signal::Jobs(Left::QUEUE.into()), "before anybody told of the commit");
}

#[tokio::test]
async fn what_follows_at_once_is_told_after_its_commit() {
    let queue = Queue::new().await;
    let signals = Signals::listen(&queue.database.url).unwrap();
    let mut heard = signals.subscribe();
    assert_eq!(heard.next().await, Signal::Resync, "it listens");
    let notifier = Notifier::new(queue.pool.clone());
    let carried = notifier.wake("steps");
    let second = notifier.wake("steps");

    let mut tx = queue.pool.begin().await.unwrap();
    enqueue_and_wake(&mut *tx, &[NewJob::new(&Left {})], &second).await.unwrap();
    tx.commit().await.unwrap();
    second.committed();
    assert_eq!(heard.next().await, Signal::Jobs("steps".into()));
    // The first one's transaction never was: nothing more is to be heard of it.
    drop(carried);
}
