//! Who may run the attempt, and when.

use std::time::{Duration, Instant};

use buildit_runner::Outcome;
use buildit_runner::pod::EXIT_NOT_BEGUN;

use super::place::{Left, Pod};
use super::server::Fault::{Lost, NoAnswer, Status};

fn assert_nothing_run(pod: &Pod, left: &Left) {
    assert_eq!(left.exit, Some(EXIT_NOT_BEGUN.into()), "{}", left.errors);
    assert_eq!((left.printed.as_str(), &left.told), ("", &None));
    assert!(!pod.workspace("ran").exists());
    assert_eq!(pod.known().report, None);
}

#[test]
fn the_winner_runs_and_tells_everybody() {
    let pod = Pod::of(&["echo hello; touch ran"]);
    let left = pod.run();
    assert_eq!(left.exit, Some(0), "{}", left.errors);
    assert_eq!(left.printed, "$ echo hello; touch ran\nhello\n");
    let report = left.told.unwrap();
    assert_eq!(report.outcome, Outcome::Exited { code: 0 });
    assert_eq!(pod.known().report, Some(report));
    assert_eq!(pod.known().objects["log"], left.printed.as_bytes());
    assert_eq!(left.errors, "");
}

#[test]
fn its_exit_code_is_the_steps() {
    let left = Pod::of(&["exit 7"]).run();
    assert_eq!((left.exit, left.told.unwrap().outcome), (Some(7), Outcome::Exited { code: 7 }));
    let killed = Pod::of(&["kill -9 $$"]).run();
    assert_eq!((killed.exit, killed.told.unwrap().outcome), (Some(1), Outcome::Signalled { signal: 9 }));
}

#[test]
fn it_waits_for_its_turn() {
    let pod = Pod::of(&["touch ran"]);
    pod.known().not_yet = 3;
    assert_eq!(pod.run().exit, Some(0));
    assert_eq!(pod.server.seen("/begin"), 4);
}

#[test]
fn an_api_in_trouble_is_asked_again_and_a_lost_answer_burns_nothing() {
    let pod = Pod::of(&["echo once >>ran"]);
    pod.server.fail("/begin", &[Status(503), NoAnswer, Lost, Status(500)]);
    let left = pod.run();
    assert_eq!(left.exit, Some(0), "{}", left.errors);
    assert_eq!(std::fs::read_to_string(pod.workspace("ran")).unwrap(), "once\n");
    assert!(left.errors.contains("begin: status 503: "), "{}", left.errors);
}

#[test]
fn whoever_comes_second_runs_nothing() {
    let pod = Pod::of(&["touch ran"]);
    pod.known().runner = Some("another".to_owned());
    let left = pod.run();
    assert_nothing_run(&pod, &left);
    assert_eq!(left.errors.lines().last(), Some("buildit-runner: another runner has begun the attempt"));
}

#[test]
fn an_attempt_that_is_over_or_unknown_is_not_run() {
    for status in [410, 404, 401] {
        let pod = Pod::of(&["touch ran"]);
        pod.server.fail("/begin", &[Status(status)]);
        assert_nothing_run(&pod, &pod.run());
        assert_eq!(pod.server.seen("/begin"), 1);
    }
}

#[test]
fn patience_with_a_silent_api_has_an_end() {
    let mut pod = Pod::of(&["touch ran"]);
    pod.spec.api = "http://127.0.0.1:1".to_owned();
    pod.spec.begin_limit_ms = 400;
    let began = Instant::now();
    let left = pod.run();
    assert_nothing_run(&pod, &left);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(left.errors.contains("refused"), "{}", left.errors);
}

#[test]
fn a_spec_of_another_time_is_refused() {
    let mut pod = Pod::of(&["touch ran"]);
    pod.spec.version = 99;
    assert_nothing_run(&pod, &pod.run());
    assert_eq!(pod.server.seen(""), 0);
}

#[test]
fn commands_see_the_images_environment_under_their_own() {
    let pod = Pod::of(&["echo $OF_THE_IMAGE $BOTH $KUBERNETES_SERVICE_HOST.", "cd ~; pwd"]).with(|attempt| {
        attempt.environment.insert("BOTH".to_owned(), "own".to_owned());
    });
    let left = pod.run();
    let home = pod.spec.root.join("attempts").join(&pod.spec.attempt.attempt_id).join("home");
    assert!(left.printed.contains("\nimage own .\n"), "{}", left.printed);
    assert!(left.printed.ends_with(&format!("\n{}\n", home.display())), "{}", left.printed);
}
