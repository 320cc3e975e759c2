//! Doing it again: deliveries, retries, reruns, and runs of one group.

use buildit_tests::installation::{Installation, git};
use serde_json::json;
use uuid::Uuid;

use super::{id, lines, reason, run_of, started, statuses, step};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_delivery_makes_one_run_however_often_and_late_it_comes() {
    let (installation, _worker) = started().await;
    let file = "pipeline: { steps: [{ name: a, image: debian, commands: ['true'] }] }";
    let project = installation.project("delivered", &[(".platform.yaml", file)]).await;
    let commit = git(project.work(), &["rev-parse", "HEAD"]);
    let delivery = Uuid::now_v7();
    let deliver = || installation.deliver(&project, delivery, "refs/heads/main", &commit);
    let (one, two) = tokio::join!(deliver(), deliver());
    assert_eq!(id(&one[0]), id(&two[0]), "at the same time");
    installation.ended(id(&one[0])).await;
    let late = deliver().await;
    assert_eq!((id(&late[0]), &late[0]["status"]), (id(&one[0]), &json!("success")), "after the run ended");
    let count: i64 =
        sqlx::query_scalar("select count(*) from pipeline_runs").fetch_one(&installation.pool).await.unwrap();
    assert_eq!(count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_runs_what_failed_and_keeps_what_is_finished() {
    let (installation, _worker) = started().await;
    let (ran, mended) = (installation.shared.join("ran"), installation.shared.join("mended"));
    let trace = format!("echo $STEP_NAME >> {}", ran.display());
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: build, image: debian, commands: ['{trace}', date +%s%N > built], outputs: [built] }}
    - {{ name: test, image: debian, commands: ['{trace}', cat built, 'test -e {}'] }}
    - {{ name: publish, image: debian, commands: ['{trace}', cat built] }}
  artifacts:
    - {{ name: built, path: built }}
",
        mended.display()
    );
    let (_, run) = run_of(&installation, "retried", &file).await;
    assert_eq!(statuses(&run), ["success", "failure", "skipped"], "{run:#}");
    std::fs::write(&mended, "").unwrap();
    let path = format!("/api/v1/runs/{}/retry", id(&run));
    let (status, answer) = installation.post(&path, json!({})).await;
    assert_eq!((status, &answer["generation"]), (202, &json!(2)), "{answer:#}");
    let before = step(&run, "build").clone();
    let run = installation.ended(id(&run)).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(lines(&ran), ["build", "test", "test", "publish"]);
    assert_eq!(step(&run, "build"), &before, "what was finished is as it was");
    assert_eq!(step(&run, "test")["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(reason(&run), "");
    let built = installation.storage.get(&format!("artifacts/{}/built/built", id(&run))).await.unwrap();
    let log = installation.log(id(&run), "publish").await;
    assert!(log.contains(std::str::from_utf8(&built).unwrap().trim()), "the same output: {log}");

    let (status, answer) = installation.post(&path, json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("nothing_to_retry")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_can_be_retried() {
    let (installation, _worker) = started().await;
    let gate = installation.shared.join("gate");
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: long, image: debian, commands: ['[ -e {} ] || sleep 100'] }}
    - {{ name: after, image: debian, commands: ['true'] }}
",
        gate.display()
    );
    let project = installation.project("once-more", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let logged = |run: &serde_json::Value| run["steps"][0]["attempts"][0]["log_length"].as_i64() > Some(0);
    installation.until(&run, "the step has begun", logged).await;
    installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
    assert_eq!(installation.ended(&run).await["status"], "cancelled");
    std::fs::write(&gate, "").unwrap();
    let (status, answer) = installation.post(&format!("/api/v1/runs/{run}/retry"), json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(statuses(&run), ["success", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_is_a_new_run_of_the_same_commit() {
    let (installation, _worker) = started().await;
    let file = "pipeline: { steps: [{ name: a, image: debian, commands: ['true'] }] }";
    let (project, first) = run_of(&installation, "repeated", file).await;
    project.commit(&[("more", "of it")]);
    let (status, started) = installation.post(&format!("/api/v1/runs/{}/rerun", id(&first)), json!({})).await;
    assert_eq!((status, &started["number"]), (201, &json!(2)), "{started}");
    let second = installation.ended(id(&started)).await;
    assert_eq!(second["status"], "success", "{second:#}");
    assert_eq!(second["commit_sha"], first["commit_sha"]);
    assert_eq!(installation.run(id(&first)).await, first, "the first one is as it was");
}

fn grouped(installation: &Installation, cancel: bool) -> String {
    let shared = installation.shared.display();
    format!(
        "
pipeline:
  steps:
    - name: alone
      image: debian
      commands: ['mkdir {shared}/busy', 'until [ -e {shared}/go ]; do sleep 0.02; done', 'rmdir {shared}/busy']
  concurrency: {{ group: '${{git.branch}}', cancel_in_progress: {cancel} }}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_group_take_turns() {
    let (installation, _worker) = started().await;
    let project = installation.project("turns", &[(".platform.yaml", &grouped(&installation, false))]).await;
    let mut runs = vec![installation.trigger(&project).await];
    installation.until(&runs[0], "the first runs", |run| run["status"] == "running").await;
    for _ in 0..2 {
        runs.push(installation.trigger(&project).await);
    }
    installation.until(&runs[2], "the last is planned", |run| run["steps"] != json!([])).await;
    assert_eq!(installation.run(&runs[1]).await["status"], "pending");
    std::fs::write(installation.shared.join("go"), "").unwrap();
    for run in &runs {
        // `mkdir` fails where two are at work at once.
        let run = installation.ended(run).await;
        assert_eq!(run["status"], "success", "{run:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_run_of_its_group_cancels_the_one_in_progress() {
    let (installation, _worker) = started().await;
    let file = grouped(&installation, true).replace("mkdir", "mkdir -p");
    let project = installation.project("superseded", &[(".platform.yaml", &file)]).await;
    let first = installation.trigger(&project).await;
    installation.until(&first, "the first runs", |run| run["steps"][0]["status"] == "running").await;
    let second = installation.trigger(&project).await;
    let first = installation.ended(&first).await;
    assert_eq!(first["status"], "cancelled", "{first:#}");
    assert!(reason(&first).contains("newer run"), "{first:#}");
    installation.until(&second, "the second runs", |run| run["status"] == "running").await;
    std::fs::write(installation.shared.join("go"), "").unwrap();
    let second = installation.ended(&second).await;
    assert_eq!(second["status"], "success", "{second:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_while_it_waits_for_its_group_never_starts() {
    let (installation, _worker) = started().await;
    let project = installation.project("waiting", &[(".platform.yaml", &grouped(&installation, false))]).await;
    let first = installation.trigger(&project).await;
    installation.until(&first, "the first runs", |run| run["status"] == "running").await;
    let (second, third) = (installation.trigger(&project).await, installation.trigger(&project).await);
    for run in [&second, &third] {
        let run = installation.until(run, "it waits", |run| !reason(run).is_empty()).await;
        assert_eq!((&run["status"], reason(&run)), (&json!("pending"), "waits for run #1 of its concurrency group"));
    }
    let (status, answer) = installation.post(&format!("/api/v1/runs/{second}/cancel"), json!({})).await;
    assert_eq!((status, &answer["status"]), (202, &json!("cancelled")), "{answer:#}");
    assert_eq!(reason(&answer), "cancelled by key all");
    std::fs::write(installation.shared.join("go"), "").unwrap();
    assert_eq!(installation.ended(&first).await["status"], "success");
    assert_eq!(installation.ended(&third).await["status"], "success");
    assert_eq!(statuses(&installation.run(&second).await), ["cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_could_not_be_planned_can_be_retried() {
    let (installation, _worker) = started().await;
    let file = "pipeline: { steps: [{ name: a, image: debian, commands: ['true'] }] }";
    let project = installation.project("replanned", &[(".platform.yaml", file)]).await;
    let run = installation.trigger_at(&project, "refs/heads/late").await;
    assert_eq!(installation.ended(&run).await["status"], "error");
    project.push(&["HEAD:refs/heads/late"]);
    let (status, answer) = installation.post(&format!("/api/v1/runs/{run}/retry"), json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let run = installation.ended(&run).await;
    assert_eq!((&run["status"], &run["generation"]), (&json!("success"), &json!(2)), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_from_a_step_runs_what_depends_on_it_with_its_new_outputs_and_the_old_ones_of_the_others() {
    let (installation, _worker) = started().await;
    let ran = installation.shared.join("ran");
    let trace = format!("echo $STEP_NAME >> {}", ran.display());
    let makes = |name: &str| format!("commands: ['{trace}', 'date +%s%N > {name}.out'], outputs: ['{name}.out']");
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: a, image: debian, {} }}
    - {{ name: b, image: debian, depends_on: [a], {} }}
    - {{ name: c, image: debian, depends_on: [a], {} }}
    - {{ name: d, image: debian, depends_on: [b, c], commands: ['{trace}', cat a.out b.out c.out] }}
",
        makes("a"),
        makes("b"),
        makes("c")
    );
    let (_, run) = run_of(&installation, "diamond", &file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let before = installation.log(id(&run), "d").await;
    let path = format!("/api/v1/runs/{}/retry", id(&run));
    let (status, answer) = installation.post(&path, json!({ "from": "x" })).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")), "{answer}");
    let (status, answer) = installation.post(&path, json!({ "from": "b" })).await;
    assert_eq!((status, &answer["generation"]), (202, &json!(2)), "{answer:#}");
    let again = installation.ended(id(&run)).await;
    assert_eq!(again["status"], "success", "{again:#}");
    let count = |name: &str| lines(&ran).iter().filter(|line| *line == name).count();
    assert_eq!([count("a"), count("b"), count("c"), count("d")], [1, 2, 1, 2]);
    assert_eq!((step(&again, "a"), step(&again, "c")), (step(&run, "a"), step(&run, "c")), "as they were");
    let after = installation.log(id(&run), "d").await;
    let outputs = |log: &str| -> Vec<String> { log.lines().rev().take(3).map(str::to_owned).collect() };
    let (before, after) = (outputs(&before), outputs(&after));
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]), "of `c` and `a`");
    assert_ne!(before[1], after[1], "of `b`");

    sqlx::query("update pipeline_runs set inputs_deleted_at = now()").execute(&installation.pool).await.unwrap();
    let (status, answer) = installation.post(&path, json!({ "from": "b" })).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("outputs_gone")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_a_run_is_started_with_reach_its_steps_as_text() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  variables: { greeting: hello }
  steps: [{ name: a, image: debian, commands: ['echo ${custom.greeting}!'] }]
";
    let project = installation.project("greeted", &[(".platform.yaml", file)]).await;
    let start = async |variables: serde_json::Value| {
        let (status, run) = installation.post("/api/v1/projects/greeted/runs", json!({ "variables": variables })).await;
        assert_eq!(status, 201, "{run}");
        installation.ended(id(&run)).await
    };
    let run = start(json!({ "greeting": "$(id) `id` \"'; id ${git.sha}" })).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert!(installation.log(id(&run), "a").await.ends_with("\n$(id) `id` \"'; id ${git.sha}!\n"));
    let run = start(json!({ "greting": "hi" })).await;
    assert_eq!(
        (&run["status"], reason(&run)),
        (&json!("error"), "The file's `variables` have no `greting`; did you mean `greeting`?")
    );
    drop(project);
}
