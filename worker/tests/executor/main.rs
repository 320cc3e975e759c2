//! The executors' contract, and what is the local executor's own, with the real runner.

#![allow(clippy::unwrap_used)]

mod conformance;
mod crashes;
mod place;
mod users;

use buildit_worker::executor::{End, Executor, FakeExecutor, State};

#[tokio::test]
async fn the_local_executor_conforms() {
    let place = place::Place::new();
    conformance::with_simple_commands(&place.executor()).await;
    conformance::with_a_shell(&place.executor()).await;
    conformance::stages_outputs_and_artifacts(&place.executor()).await;
}

#[tokio::test]
async fn the_fake_executor_conforms() {
    conformance::with_simple_commands(&FakeExecutor::default()).await;
}

#[tokio::test]
async fn the_fake_executors_attempts_can_be_held_and_lost() {
    let fake = FakeExecutor::default();
    let handle = fake.start(&conformance::attempt(&["hold here", "lose", "echo no"]).into()).await.unwrap();
    conformance::log_shows(&fake, &handle, "$ hold here\n").await;
    assert_eq!(fake.state(&handle).await.unwrap(), State::Running);
    fake.release("here");
    assert!(matches!(fake.wait(&handle).await.unwrap(), End::Lost { .. }));
    assert_eq!(fake.commands_run(), 2);
    assert_eq!(conformance::log(&fake, &handle).await, "$ hold here\n$ lose\n");
}
