//! What a kill, at any moment and of anyone, does to an attempt.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use buildit_runner::{AttemptSpec, Outcome};
use buildit_worker::executor::{End, Executor, Handle, State};
use rustix::process::{Pid, Signal, kill_process};

use crate::conformance::{self, attempt, log, log_shows, report};
use crate::place::{Place, executor};

const STARTER_ROOT: &str = "BUILDIT_TEST_STARTER_ROOT";

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
async fn a_starter_that_waits_to_be_killed() {
    let Some(root) = std::env::var_os(STARTER_ROOT) else { return };
    let spec: AttemptSpec = serde_json::from_reader(std::io::stdin()).unwrap();
    let executor = executor(root.as_ref());
    let handle = executor.start(&spec.clone().into()).await.unwrap();
    executor.wait(&handle).await.unwrap();
}

#[tokio::test]
async fn a_step_outlives_its_killed_starter_and_is_adopted() {
    let place = Place::new();
    let go = place.shared("go");
    let runs = place.shared("runs");
    let spec = attempt(&[
        &format!("echo run >>{}; echo up", runs.display()),
        &format!("while [ ! -e {} ]; do sleep 0.01; done; echo end", go.display()),
    ]);
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::a_starter_that_waits_to_be_killed"])
        .env(STARTER_ROOT, place.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(starter.stdin.take().unwrap(), &spec).unwrap();
    let executor = place.executor();
    let handle = Handle::new(&spec.attempt_id);
    while !matches!(executor.state(&handle).await.unwrap(), State::Running) {
        tokio::task::yield_now().await;
    }
    log_shows(&executor, &handle, "\nup").await;
    starter.kill().unwrap();
    starter.wait().unwrap();
    // The runner holds nothing of its starter, or these would not end.
    starter.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    starter.stderr.take().unwrap().read_to_end(&mut Vec::new()).unwrap();

    assert_eq!(executor.state(&handle).await.unwrap(), State::Running);
    assert_eq!(executor.start(&spec.clone().into()).await.unwrap(), handle);
    fs::write(&go, "").unwrap();
    assert!(report(&executor, &handle).await.outcome.is_success());
    assert!(log(&executor, &handle).await.ends_with("\nend\n"));
    assert_eq!(fs::read_to_string(runs).unwrap(), "run\n");
}

#[tokio::test]
async fn a_killed_runner_is_noticed_at_once_and_nothing_of_it_survives() {
    let place = Place::new();
    let executor = place.executor();
    let pids = place.shared("pids");
    let leave =
        format!("sleep 600 & echo $! >>{0}; setsid env -i sleep 600 & echo $! >>{0}; echo up; wait", pids.display());
    let spec = attempt(&[&leave]);
    let handle = executor.start(&spec.clone().into()).await.unwrap();
    log_shows(&executor, &handle, "\nup").await;
    assert!(matches!(executor.confirm_ended(&handle).await, Err(buildit_worker::executor::Error::StillRunning)));

    let waiting = {
        let (executor, handle) = (place.executor(), handle.clone());
        tokio::spawn(async move {
            let followed = conformance::log_from(&executor, &handle, 0).await;
            (executor.wait(&handle).await.unwrap(), followed)
        })
    };
    tokio::task::yield_now().await;
    let killed = Instant::now();
    kill_process(place.runner_pid(&handle), Signal::KILL).unwrap();
    let (end, followed) = waiting.await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    assert_eq!(end, End::Lost { reason: "The step's runner was killed.".into() });
    assert!(followed.ends_with(b"\nup\n"));

    executor.confirm_ended(&handle).await.unwrap();
    for pid in fs::read_to_string(pids).unwrap().lines() {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
    // Lost stays lost.
    executor.start(&spec.clone().into()).await.unwrap();
    assert!(matches!(executor.state(&handle).await.unwrap(), State::Lost { .. }));
    executor.clean(&handle).await.unwrap();
    assert_eq!(executor.state(&handle).await.unwrap(), State::Absent { begun: true });
}

#[tokio::test]
async fn a_stopped_runner_is_not_a_lost_one() {
    let place = Place::new();
    let executor = place.executor();
    let handle = executor.start(&attempt(&["echo up; sleep 600"]).into()).await.unwrap();
    log_shows(&executor, &handle, "\nup").await;
    let runner = place.runner_pid(&handle);
    kill_process(runner, Signal::STOP).unwrap();
    executor.stop(&handle, Duration::ZERO).await.unwrap();
    assert_eq!(executor.state(&handle).await.unwrap(), State::Running);
    assert!(executor.clean(&handle).await.is_err());
    kill_process(runner, Signal::CONT).unwrap();
    assert_eq!(report(&executor, &handle).await.outcome, Outcome::Stopped);
}

#[tokio::test]
async fn what_a_killed_runner_left_before_it_began_is_done_again() {
    let place = Place::new();
    let executor = place.executor();
    place.layout().create(true).unwrap();
    for left in ["nothing", "lock", "log"] {
        let spec = attempt(&["echo once"]);
        let handle = Handle::new(&spec.attempt_id);
        let folder = place.attempt(&handle);
        fs::create_dir(folder.path()).unwrap();
        if left != "nothing" {
            fs::write(folder.lock(), "").unwrap();
        }
        if left == "log" {
            fs::write(folder.log(), "").unwrap();
        }
        assert_eq!(executor.state(&handle).await.unwrap(), State::Absent { begun: false }, "{left}");
        executor.start(&spec.clone().into()).await.unwrap();
        assert!(report(&executor, &handle).await.outcome.is_success(), "{left}");
        assert_eq!(log(&executor, &handle).await, "$ echo once\nonce\n");
    }
}

#[tokio::test]
async fn a_restart_of_the_machine_is_told_apart() {
    let place = Place::new();
    let executor = place.executor();
    let handle = executor.start(&attempt(&["true"]).into()).await.unwrap();
    report(&executor, &handle).await;
    let folder = place.attempt(&handle);
    // As a power cut may leave them.
    fs::write(folder.result(), "{\"attempt_id\":").unwrap();
    fs::write(folder.lock(), "4711\n00000000-0000-0000-0000-000000000000\n").unwrap();
    let reason = "The machine was restarted while the step ran.".to_owned();
    assert_eq!(executor.wait(&handle).await.unwrap(), End::Lost { reason });
}

#[tokio::test]
async fn a_stale_start_after_the_end_runs_nothing() {
    let place = Place::new();
    let executor = place.executor();
    let runs = place.shared("runs");
    let spec = attempt(&[&format!("echo run >>{}", runs.display())]);
    let handle = executor.start(&spec.clone().into()).await.unwrap();
    report(&executor, &handle).await;
    executor.clean(&handle).await.unwrap();
    // A stale worker that had looked before: its runner finds the marker.
    fs::create_dir(place.attempt(&handle).path()).unwrap();
    executor.start(&spec.clone().into()).await.unwrap();
    assert!(matches!(executor.wait(&handle).await.unwrap(), End::Lost { .. }));
    assert_eq!(fs::read_to_string(runs).unwrap(), "run\n");
}

/// Starts, stops, cleans and looks at the same attempts from many sides at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_races_no_commands_run_twice() {
    let place = Place::new();
    for round in 0..40 {
        let runs = place.shared(&format!("runs{round}"));
        let spec = attempt(&[&format!("echo run >>{}", runs.display())]);
        let handle = Handle::new(&spec.attempt_id);
        let mut tasks = tokio::task::JoinSet::new();
        for side in 0..12 {
            let (executor, spec, handle) = (place.executor(), spec.clone(), handle.clone());
            tasks.spawn(async move {
                match side % 4 {
                    0 | 1 => drop(executor.start(&spec.clone().into()).await.unwrap()),
                    2 if round % 3 == 0 => executor.stop(&handle, Duration::ZERO).await.unwrap(),
                    2 => drop(executor.state(&handle).await.unwrap()),
                    // Refused while it runs.
                    _ => drop(executor.clean(&handle).await),
                }
            });
        }
        tasks.join_all().await;
        let executor = place.executor();
        executor.start(&spec.clone().into()).await.unwrap();
        executor.wait(&handle).await.unwrap();
        let ran = fs::read_to_string(runs).unwrap_or_default();
        assert!(ran.is_empty() || ran == "run\n", "{ran}");
    }
}

#[tokio::test]
async fn no_runner_is_left_as_a_zombie() {
    let place = Place::new();
    let executor = place.executor();
    let handle = executor.start(&attempt(&["true"]).into()).await.unwrap();
    let pid: Pid = loop {
        let lock = fs::read_to_string(place.attempt(&handle).lock()).unwrap();
        if lock.ends_with('\n') {
            break place.runner_pid(&handle);
        }
        tokio::task::yield_now().await;
    };
    report(&executor, &handle).await;
    let give_up = Instant::now() + Duration::from_secs(10);
    while fs::exists(format!("/proc/{pid}")).unwrap() {
        assert!(Instant::now() < give_up);
        tokio::task::yield_now().await;
    }
}
