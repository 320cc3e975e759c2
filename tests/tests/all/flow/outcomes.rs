//! How runs and steps end.

use super::{id, lines, reason, run_of, started, statuses, step};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_steps_succeed_succeeds() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: one, image: debian, commands: [echo first words] }
    - { name: two, image: debian, commands: [echo second words] }
";
    let (_, run) = run_of(&installation, "green", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(statuses(&run), ["success", "success"]);
    assert_eq!(step(&run, "one")["exit_code"], 0);
    assert!(step(&run, "one")["finished_at"].as_str() <= step(&run, "two")["started_at"].as_str(), "in sequence");
    assert!(installation.log(id(&run), "two").await.contains("\nsecond words\n"));
    assert_eq!(run["number"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_its_command_and_skips_what_follows() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: good, image: debian, commands: ['true'] }
    - { name: bad, image: debian, commands: [echo before, sh -c 'exit 3', echo after] }
    - { name: later, image: debian, commands: [echo no] }
    - { name: last, image: debian, commands: [echo no] }
";
    let (_, run) = run_of(&installation, "red", file).await;
    assert_eq!(run["status"], "failure", "{run:#}");
    assert_eq!(statuses(&run), ["success", "failure", "skipped", "skipped"]);
    assert_eq!(step(&run, "bad")["exit_code"], 3);
    assert_eq!(reason(step(&run, "bad")), "`sh -c 'exit 3'` ended with exit code 3");
    assert!(reason(&run).contains("bad"), "the run names the step: {run:#}");
    for skipped in ["later", "last"] {
        assert!(reason(step(&run, skipped)).contains("bad"), "{run:#}");
        assert_eq!(step(&run, skipped)["attempts"].as_array().unwrap().len(), 0);
    }
    let log = installation.log(id(&run), "bad").await;
    assert!(log.contains("\nbefore\n") && !log.contains("\nafter\n"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diamond_runs_its_sides_in_parallel_and_hands_outputs_on() {
    let (installation, _worker) = started().await;
    // Each side waits until it has seen the other one.
    let shared = installation.shared.display();
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: base, image: debian, commands: [echo from-base > base.txt], outputs: [base.txt] }}
    - name: left
      image: debian
      depends_on: [base]
      commands: [touch {shared}/left, 'until [ -e {shared}/right ]; do sleep 0.02; done', sed s/base/left/ base.txt > left.txt]
      outputs: [left.txt]
    - name: right
      image: debian
      depends_on: [base]
      commands: [touch {shared}/right, 'until [ -e {shared}/left ]; do sleep 0.02; done', sed s/base/right/ base.txt > right.txt]
      outputs: [right.txt]
    - {{ name: join, image: debian, depends_on: [left, right], commands: [cat base.txt left.txt right.txt] }}
"
    );
    let (_, run) = run_of(&installation, "diamond", &file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let log = installation.log(id(&run), "join").await;
    assert!(log.contains("\nfrom-base\nfrom-left\nfrom-right\n"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_graph_a_failure_skips_only_what_depends_on_it() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: bad, image: debian, commands: ['false'] }
    - { name: aside, image: debian, commands: [sleep 0.2], depends_on: [] }
    - { name: child, image: debian, commands: ['true'], depends_on: [bad] }
    - { name: grandchild, image: debian, commands: ['true'], depends_on: [child, aside] }
    - { name: free, image: debian, commands: ['true'], depends_on: [aside] }
";
    let (_, run) = run_of(&installation, "graph", file).await;
    assert_eq!(statuses(&run), ["failure", "success", "skipped", "skipped", "success"], "{run:#}");
    assert_eq!(run["status"], "failure");
    assert!(reason(step(&run, "child")).contains("bad"), "{run:#}");
    assert!(!reason(step(&run, "grandchild")).is_empty(), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_is_stopped_with_all_its_processes() {
    let (installation, _worker) = started().await;
    let survivor = installation.shared.join("survivor");
    let file = format!(
        "
pipeline:
  steps:
    - name: slow
      image: debian
      timeout: 1s
      commands:
        - echo begun
        - '(sleep 3; echo alive > {}) & sleep 60'
",
        survivor.display()
    );
    let (_, run) = run_of(&installation, "slow", &file).await;
    assert_eq!(run["status"], "failure", "{run:#}");
    assert!(reason(step(&run, "slow")).contains("time-out of 1 s"), "{run:#}");
    assert!(installation.log(id(&run), "slow").await.contains("\nbegun\n"));
    let took = step(&run, "slow")["duration_ms"].as_i64().unwrap();
    println!("a step with 1 s of time ended after {took} ms");
    assert!((1000..9000).contains(&took), "{took} ms");
    let left = std::process::Command::new("pgrep").args(["-f", &survivor.display().to_string()]).output().unwrap();
    assert!(left.stdout.is_empty(), "no process of the step is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_step_keeps_each_attempt_with_its_log() {
    let (installation, _worker) = started().await;
    let counter = installation.shared.join("counter");
    let file = format!(
        "
pipeline:
  steps:
    - name: flaky
      image: debian
      retry: 2
      commands: ['echo x >> {0}', 'echo this is attempt $(wc -l < {0})', '[ $(wc -l < {0}) = 2 ]']
    - {{ name: after, image: debian, commands: ['true'] }}
",
        counter.display()
    );
    let (_, run) = run_of(&installation, "flaky", &file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let attempts = step(&run, "flaky")["attempts"].as_array().unwrap();
    let states: Vec<_> = attempts.iter().map(|attempt| attempt["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["failure", "success"]);
    assert!(!reason(&attempts[0]).is_empty());
    for (number, expected) in [(1, "this is attempt 1"), (2, "this is attempt 2")] {
        let path = format!("/api/v1/runs/{}/steps/flaky/logs?attempt={number}&follow=false", id(&run));
        let answer = installation.send(|client| client.get(format!("{}{path}", installation.url))).await;
        let log = answer.text().await.unwrap();
        assert!(log.contains(&format!("\n{expected}\n")), "{log}");
    }
    assert!(installation.log(id(&run), "flaky").await.contains("\nthis is attempt 2\n"), "the last one's");
    assert_eq!(lines(&counter).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_that_are_used_up_leave_a_failure() {
    let (installation, _worker) = started().await;
    let file = "pipeline: { steps: [{ name: bad, image: debian, retry: 2, commands: ['false'] }] }";
    let (_, run) = run_of(&installation, "hopeless", file).await;
    assert_eq!(run["status"], "failure");
    assert_eq!(step(&run, "bad")["attempts"].as_array().unwrap().len(), 3, "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_allowed_holds_nobody_up() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: lint, image: debian, commands: ['false'], allow_failure: true }
    - { name: test, image: debian, commands: ['true'] }
";
    let (_, run) = run_of(&installation, "lenient", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(statuses(&run), ["failure", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_when_does_not_match_is_left_out_and_holds_nobody_up() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: test, image: debian, commands: ['true'] }
    - { name: nightly, image: debian, commands: ['true'], when: { event: [schedule] } }
    - { name: release, image: debian, commands: ['true'], when: { branch: ['release/*'] } }
    - { name: notify, image: debian, commands: ['true'], when: { branch: [main], event: [api] } }
";
    let (_, run) = run_of(&installation, "when", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(statuses(&run), ["success", "skipped", "skipped", "success"]);
    assert!(reason(step(&run, "nightly")).contains("`when.event` names only `schedule`"), "{run:#}");
    assert!(reason(step(&run, "release")).contains("`release/*`"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_build_leaves_a_deployment_and_a_failed_one_does_not() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: test, image: debian, commands: ['true'] }
    - { name: build, image: debian, commands: ['true'], deploy: production }
";
    let (_, run) = run_of(&installation, "web", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let (_, failed) = run_of(&installation, "broken", &file.replace("['true'], deploy", "['false'], deploy")).await;
    assert_eq!(failed["status"], "failure", "{failed:#}");
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("select environment, image, desired_status from deployments")
            .fetch_all(&installation.pool)
            .await
            .unwrap();
    let sha = run["commit_sha"].as_str().unwrap();
    assert_eq!(rows, [("production".into(), format!("localhost:5000/web:{sha}"), "active".into())]);
    assert!(run["notes"][0].as_str().unwrap().contains("digest"), "nobody has pushed it: {run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_are_not_there_are_said() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: build, image: debian, commands: ['true'], outputs: [target/web] }
    - { name: pack, image: debian, commands: ['touch a'], outputs: [a, b] }
    - { name: after, image: debian, commands: ['touch z'] }
  artifacts:
    - { name: z, path: z }
";
    let (_, run) = run_of(&installation, "no-output", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let notes = [
        "step `build`: Nothing matched its outputs (target/web); the steps after it get none.",
        "step `pack`: Nothing matched b of its outputs; the steps after it get the rest.",
    ];
    assert_eq!(run["notes"], serde_json::json!(notes), "{run:#}");
}
