//! Whom steps run as.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use buildit_worker::executor::{Error, Executor, State};

use crate::conformance::{attempt, log, report};
use crate::place::Place;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn roots_steps_run_as_nobody_and_others_as_themselves() {
    let place = Place::new();
    let executor = place.executor();
    let handle = executor.start(&attempt(&["id -u; pwd"]).into()).await.unwrap();
    report(&executor, &handle).await;
    let uid = if is_root() { 65534 } else { rustix::process::geteuid().as_raw() };
    let workspace = place.attempt(&handle).path().join("workspace");
    assert!(log(&executor, &handle).await.ends_with(&format!("\n{uid}\n{}\n", workspace.display())));
}

#[tokio::test]
async fn a_place_that_the_steps_user_cannot_reach_is_told() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.root()).unwrap();
    fs::set_permissions(place.root(), Permissions::from_mode(0o700)).unwrap();
    let error = place.executor().start(&attempt(&["true"]).into()).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { path } if *path == place.root()), "{error}");
    let as_root = place.executor().with_user(None);
    let handle = as_root.start(&attempt(&["id -u"]).into()).await.unwrap();
    report(&as_root, &handle).await;
    assert!(log(&as_root, &handle).await.ends_with("\n0\n"));
}

#[tokio::test]
async fn what_a_step_closed_to_its_owner_is_cleaned_all_the_same() {
    let place = Place::new();
    let executor = place.executor();
    let handle = executor.start(&attempt(&["mkdir -p a/b; echo x >a/b/c; chmod 0 a/b a"]).into()).await.unwrap();
    report(&executor, &handle).await;
    executor.clean(&handle).await.unwrap();
    assert_eq!(executor.state(&handle).await.unwrap(), State::Absent { begun: true });
    assert_eq!(fs::read_dir(place.root().join("trash")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_id_that_is_no_name_is_refused() {
    let place = Place::new();
    let mut spec = attempt(&["true"]);
    spec.attempt_id = "../escape".into();
    assert!(matches!(place.executor().start(&spec.clone().into()).await, Err(Error::BadAttemptId(_))));
}
