//! What holds for every executor. Each function is one clause of the contract, checked against an
//! executor that runs real commands.

use std::time::Duration;

use buildit_runner::spec::{ArtifactSpec, AttemptSpec};
use buildit_runner::{Outcome, Report};
use buildit_worker::executor::{End, Error, Executor, Handle, Launch, MAX_CHUNK, State, Swept};
use futures::StreamExt;

/// A fresh attempt that runs `commands`.
pub(crate) fn attempt(commands: &[&str]) -> AttemptSpec {
    let mut spec = AttemptSpec::new(uuid::Uuid::new_v4().to_string(), "conformance");
    spec.commands = commands.iter().map(|command| command.to_string()).collect();
    spec
}

/// It in an image with a shell, where the executor has images.
pub(crate) fn launch(spec: &AttemptSpec) -> Launch {
    Launch { image: "buildit.test/busybox:1".into(), ..Launch::from(spec.clone()) }
}

/// The report of an attempt that must end with one.
pub(crate) async fn report(executor: &dyn Executor, handle: &Handle) -> Report {
    match executor.wait(handle).await.unwrap() {
        End::Reported(report) => *report,
        End::Lost { reason } | End::Failed { reason, .. } => panic!("no report: {reason}"),
    }
}

/// The whole log, to its end.
pub(crate) async fn log(executor: &dyn Executor, handle: &Handle) -> String {
    String::from_utf8(log_from(executor, handle, 0).await).unwrap()
}

/// The log from `from` on, without a gap.
pub(crate) async fn log_from(executor: &dyn Executor, handle: &Handle, from: u64) -> Vec<u8> {
    let mut log = Vec::new();
    let mut chunks = executor.follow(handle, from);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.unwrap();
        assert_eq!(chunk.start, from + log.len() as u64);
        assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= MAX_CHUNK);
        log.extend(chunk.bytes);
    }
    log
}

/// Follows the log until it contains `text`.
pub(crate) async fn log_shows(executor: &dyn Executor, handle: &Handle, text: &str) {
    let mut seen = String::new();
    let mut chunks = executor.follow(handle, 0);
    while !seen.contains(text) {
        let chunk = chunks.next().await.expect("the log ended early").unwrap();
        seen.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
    }
}

/// The clauses that take no real shell: the commands are ones that the fake knows, too.
pub(crate) async fn with_simple_commands(executor: &dyn Executor) {
    stops_at_the_first_command_that_fails(executor).await;
    starting_again_adopts(executor).await;
    starting_at_once_runs_once(executor).await;
    a_stop_before_the_start_lets_nothing_run(executor).await;
    ends_at_the_timeout(executor).await;
    a_cleaned_attempt_never_runs_again(executor).await;
    knows_nothing_of_what_was_never_started(executor).await;
    sweeps_what_nobody_wants(executor).await;
}

/// The other clauses, but for that of what a step leaves in its folder, which is for executors that have one.
pub(crate) async fn with_a_shell(executor: &dyn Executor) {
    runs_commands_in_order_and_reports(executor).await;
    follows_live_and_from_any_offset(executor).await;
    stops_what_runs(executor).await;
}

pub(crate) async fn runs_commands_in_order_and_reports(executor: &dyn Executor) {
    let spec = attempt(&["echo one", "cd /; X=two", "pwd; echo $X"]);
    let handle = executor.start(&launch(&spec)).await.unwrap();
    assert_eq!(log(executor, &handle).await, "$ echo one\none\n$ cd /; X=two\n$ pwd; echo $X\n/\ntwo\n");
    let report = report(executor, &handle).await;
    assert_eq!(report.outcome, Outcome::Exited { code: 0 });
    assert_eq!((report.failed_command, report.log_truncated), (None, false));
    assert!(report.started_at_ms <= report.first_command_at_ms.unwrap());
    assert!(report.first_command_at_ms.unwrap() <= report.ended_at_ms);
    assert_eq!(executor.state(&handle).await.unwrap(), State::Ended(Box::new(report)));
}

pub(crate) async fn stops_at_the_first_command_that_fails(executor: &dyn Executor) {
    let handle = executor.start(&launch(&attempt(&["true", "exit 7", "echo no"]))).await.unwrap();
    let report = report(executor, &handle).await;
    assert_eq!(report.outcome, Outcome::Exited { code: 7 });
    assert_eq!(report.failed_command, Some(1));
    assert_eq!(log(executor, &handle).await, "$ true\n$ exit 7\n");
}

pub(crate) async fn starting_again_adopts(executor: &dyn Executor) {
    let spec = attempt(&["echo once; sleep 0.2"]);
    let handle = executor.start(&launch(&spec)).await.unwrap();
    assert_eq!(executor.start(&launch(&spec)).await.unwrap(), handle);
    let first = report(executor, &handle).await;
    assert_eq!(executor.start(&launch(&spec)).await.unwrap(), handle);
    assert_eq!(report(executor, &handle).await, first);
    assert_eq!(log(executor, &handle).await, "$ echo once; sleep 0.2\nonce\n");
}

pub(crate) async fn starting_at_once_runs_once(executor: &dyn Executor) {
    let spec = attempt(&["echo once"]);
    let launch = launch(&spec);
    let starts = futures::future::try_join_all((0..8).map(|_| executor.start(&launch)));
    let handle = starts.await.unwrap().remove(0);
    assert!(report(executor, &handle).await.outcome.is_success());
    assert_eq!(log(executor, &handle).await, "$ echo once\nonce\n");
}

pub(crate) async fn follows_live_and_from_any_offset(executor: &dyn Executor) {
    let spec = attempt(&["printf partial; while [ ! -e go ]; do sleep 0.01; done; echo rest"]);
    let handle = executor.start(&launch(&spec)).await.unwrap();
    log_shows(executor, &handle, "\npartial").await;
    assert_eq!(executor.state(&handle).await.unwrap(), State::Running);
    executor.stop(&handle, Duration::ZERO).await.unwrap();
    let report = report(executor, &handle).await;
    let whole = log(executor, &handle).await;
    assert_eq!(whole.len() as u64, report.log_len);
    for from in [0, 1, whole.len() - 1, whole.len(), whole.len() + 10] {
        assert_eq!(log_from(executor, &handle, from as u64).await, whole.as_bytes().get(from..).unwrap_or_default());
    }
    let large = executor.start(&launch(&attempt(&["head -c 2000000 /dev/zero"]))).await.unwrap();
    assert_eq!(log_from(executor, &large, 0).await.len(), 2_000_000 + "$ head -c 2000000 /dev/zero\n".len());
}

pub(crate) async fn stops_what_runs(executor: &dyn Executor) {
    let patient = attempt(&["trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.01; done"]);
    let handle = executor.start(&launch(&patient)).await.unwrap();
    log_shows(executor, &handle, "\nup").await;
    executor.stop(&handle, Duration::from_secs(30)).await.unwrap();
    assert_eq!(report(executor, &handle).await.outcome, Outcome::Stopped);
    assert!(log(executor, &handle).await.ends_with("term\n"));

    let deaf = attempt(&["trap '' TERM; echo up; while :; do sleep 0.01; done"]);
    let handle = executor.start(&launch(&deaf)).await.unwrap();
    log_shows(executor, &handle, "\nup").await;
    executor.stop(&handle, Duration::from_secs(3600)).await.unwrap();
    executor.stop(&handle, Duration::from_millis(10)).await.unwrap();
    assert_eq!(report(executor, &handle).await.outcome, Outcome::Stopped);
}

pub(crate) async fn a_stop_before_the_start_lets_nothing_run(executor: &dyn Executor) {
    let spec = attempt(&["echo no"]);
    let handle = Handle::new(&spec.attempt_id);
    executor.stop(&handle, Duration::ZERO).await.unwrap();
    executor.start(&launch(&spec)).await.unwrap();
    assert!(matches!(executor.wait(&handle).await.unwrap(), End::Lost { .. }));
    assert!(matches!(executor.follow(&handle, 0).next().await, None | Some(Err(Error::NotStarted))));
}

pub(crate) async fn ends_at_the_timeout(executor: &dyn Executor) {
    let spec = AttemptSpec { timeout_ms: 100, grace_ms: 10, ..attempt(&["true", "sleep 600"]) };
    let handle = executor.start(&launch(&spec)).await.unwrap();
    let report = report(executor, &handle).await;
    assert_eq!((report.outcome, report.failed_command), (Outcome::TimedOut, Some(1)));
}

pub(crate) async fn stages_outputs_and_artifacts(executor: &dyn Executor) {
    let artifacts = vec![
        ArtifactSpec { name: "found".into(), path: "out/*.txt".into() },
        ArtifactSpec { name: "missing".into(), path: "nowhere".into() },
    ];
    let make = "mkdir out; echo a >out/a.txt; echo b >out/b.log";
    let outputs = vec!["out".into(), "nothing-here".into()];
    let spec = AttemptSpec { outputs, artifacts: artifacts.clone(), ..attempt(&[make]) };
    let handle = executor.start(&launch(&spec)).await.unwrap();
    let first = report(executor, &handle).await;
    let outputs = first.outputs.unwrap();
    assert_eq!(outputs.files, 2);
    assert_eq!(first.artifacts[0].staged.as_ref().unwrap().files, 1);
    assert!(!first.artifacts[1].matched());
    // Another step may have made the missing artifact; the missing output is nobody else's.
    assert!(first.notes.len() == 1 && first.notes[0].contains("nothing-here"), "{:?}", first.notes);

    let archive = executor.files(&handle).unwrap().join(&outputs.file);
    let spec = AttemptSpec {
        inputs: vec![archive],
        outputs: vec!["out".into()],
        artifacts,
        ..attempt(&["cat out/a.txt", "false"])
    };
    let handle = executor.start(&launch(&spec)).await.unwrap();
    let second = report(executor, &handle).await;
    assert!(log(executor, &handle).await.contains("\na\n"));
    assert_eq!(second.outcome, Outcome::Exited { code: 1 });
    assert_eq!(second.outputs, None);
    assert!(second.artifacts[0].matched());
}

pub(crate) async fn a_cleaned_attempt_never_runs_again(executor: &dyn Executor) {
    let spec = attempt(&["echo x"]);
    let handle = executor.start(&launch(&spec)).await.unwrap();
    let report = report(executor, &handle).await;
    // Where reports outlive their attempt's place the end is still known.
    let over =
        |state| matches!(&state, State::Absent { begun: true }) || state == State::Ended(Box::new(report.clone()));
    executor.clean(&handle).await.unwrap();
    assert!(over(executor.state(&handle).await.unwrap()));
    executor.clean(&handle).await.unwrap();
    executor.start(&launch(&spec)).await.unwrap();
    assert!(over(executor.state(&handle).await.unwrap()));
    let end = executor.wait(&handle).await.unwrap();
    assert!(matches!(&end, End::Lost { .. }) || end == End::Reported(Box::new(report)));
}

pub(crate) async fn knows_nothing_of_what_was_never_started(executor: &dyn Executor) {
    let handle = Handle::new(uuid::Uuid::new_v4().to_string());
    assert_eq!(executor.state(&handle).await.unwrap(), State::Absent { begun: false });
    assert!(matches!(executor.wait(&handle).await, Err(Error::NotStarted)));
}

pub(crate) async fn sweeps_what_nobody_wants(executor: &dyn Executor) {
    let running = executor.start(&launch(&attempt(&["sleep 600"]))).await.unwrap();
    let ended = executor.start(&launch(&attempt(&["true"]))).await.unwrap();
    let kept = executor.start(&launch(&attempt(&["true"]))).await.unwrap();
    report(executor, &ended).await;
    report(executor, &kept).await;
    let names = [running.attempt_id().to_owned(), ended.attempt_id().to_owned()];
    let keep = |attempt_id: &str| !names.iter().any(|name| name == attempt_id);
    let young = executor.sweep(&keep, Duration::from_secs(3600)).await.unwrap();
    assert!(young.stopped.is_empty() && young.cleaned.is_empty());
    let first = executor.sweep(&keep, Duration::ZERO).await.unwrap();
    assert_eq!((first.stopped, first.cleaned), (vec![names[0].clone()], vec![names[1].clone()]));
    assert_eq!(report(executor, &running).await.outcome, Outcome::Stopped);
    let second = executor.sweep(&keep, Duration::ZERO).await.unwrap();
    assert!(second.stopped.is_empty());
    // Some are gone with their end.
    assert!(second.cleaned.iter().all(|name| *name == names[0]));
    assert_eq!(executor.sweep(&keep, Duration::ZERO).await.unwrap(), Swept::default());
    assert!(matches!(executor.state(&kept).await.unwrap(), State::Ended(_)));
}
