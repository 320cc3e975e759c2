//! A run: its sentence, its steps, its buttons.

use serde_json::json;

use super::{one_step, started};

const GRAPH: &str = r#"
pipeline:
  steps:
    - { name: lint, image: "rust:1.95-slim", commands: ["echo no complaints"] }
    - { name: build, image: "rust:1.95-slim", commands: ["echo Compiling web v0.3.1", "sleep 0.4"], depends_on: [] }
    - name: unit-tests
      image: rust:1.95-slim
      commands:
        - echo "running 214 tests"
        - cat compiler.txt
        - cat results.txt; exit 101
      depends_on: [build]
    - { name: browser-tests, image: "node:22", commands: ["echo 38 passed"], depends_on: [build] }
    - { name: image, image: "debian:bookworm-slim", commands: ["echo pushed"], depends_on: [unit-tests, browser-tests, lint] }
  artifacts:
    - { name: none, path: report/ }
"#;

const COMPILER: &str =
    "\u{1b}[32m   Compiling\u{1b}[0m web v0.3.1\n\u{1b}[1;33mwarning\u{1b}[0m: unused variable `x`\n";
const RESULTS: &str = "test cart::adds_up ... ok\ntest cart::empty ... ok\ntest cart::tax ... \u{1b}[31mFAILED\u{1b}[0m\n\
                       assertion `left == right` failed at src/cart.rs:88\n  left: 19\n right: 21\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_opens_at_the_step_that_failed_and_says_why() {
    let (installation, _worker, _browser, page) = started().await;
    let project = installation
        .project("web", &[(".platform.yaml", GRAPH), ("compiler.txt", COMPILER), ("results.txt", RESULTS)])
        .await;
    project.commit_as("Round taxes up, not down", &[]);
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    page.open(&format!("/runs/{run}")).await;
    page.shows("unit-tests failed").await;
    page.shows("101").await;
    assert_eq!(page.text("#steps [aria-current] .name").await, "unit-tests");
    // The failing command is open, those that passed are closed, and the end is in sight.
    page.until("document.querySelector('.lines').innerText.includes('failed at src/cart.rs:88')").await;
    assert!(!page.text(".lines").await.contains("unused variable"), "closed");
    assert!(page.eval("document.title").await.as_str().unwrap().contains("failure"));
    page.until("document.getElementById('icon').href.includes('failure')").await;
    page.pictures("run-failed").await;
    page.click(".command:nth-of-type(2) .t").await;
    page.shows("unused variable").await;
    assert_eq!(page.count(".lines .f3.b").await, 1, "colours of terminals are shown");

    page.size(360, 740).await;
    page.pictures("run-failed-phone").await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);
    page.size(1280, 800).await;

    // By keys alone: down the list of steps, and into one.
    page.eval("document.activeElement.blur()").await;
    page.press("j").await;
    page.until("document.activeElement.innerText.includes('browser-tests')").await;
    page.press("k").await;
    page.press("?").await;
    page.until("document.getElementById('keys').open").await;
    page.picture("keys-light").await;
    page.press("Escape").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_in_the_page_as_it_does_in_the_world() {
    let (installation, _worker, _browser, page) = started().await;
    let go = installation.shared.join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let project =
        installation.project("web", &[(".platform.yaml", &one_step(&["echo begun", &wait, "echo done"]))]).await;
    let run = installation.trigger(&project).await;
    page.open(&format!("/runs/{run}")).await;
    page.eval("window.same = true").await;
    page.until("document.querySelector('.lines')?.innerText.includes('begun')").await;
    page.until("document.title.includes('running') && document.getElementById('icon').href.includes('running')").await;
    page.pictures("run-live").await;
    std::fs::write(&go, "").unwrap();
    page.until("document.querySelector('.lines').innerText.includes('done')").await;
    page.until("document.title.includes('success')").await;
    page.until("document.getElementById('rerun') !== null && document.getElementById('cancel') === null").await;
    assert_eq!(page.eval("window.same").await, true, "the page was never loaded again");
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_retry_and_run_again_are_buttons_that_need_no_script() {
    let (installation, _worker, _browser, page) = started().await;
    let again = installation.shared.join("again");
    let wait = format!("[ -e {} ] || sleep 600", again.display());
    let project = installation.project("web", &[(".platform.yaml", &one_step(&[&wait]))]).await;
    let run = installation.trigger(&project).await;
    installation.until(&run, "the step is at work", |run| run["steps"][0]["status"] == "running").await;
    page.scripts(false).await;
    page.open(&format!("/runs/{run}")).await;
    page.follow("#cancel").await;
    assert_eq!(installation.ended(&run).await["status"], "cancelled");

    std::fs::write(&again, "").unwrap();
    page.open(&format!("/runs/{run}")).await;
    page.shows("Cancelled").await;
    page.follow("#retry").await;
    assert_eq!(installation.ended(&run).await["status"], "success");

    page.open(&format!("/runs/{run}")).await;
    page.follow("#rerun").await;
    let second = page.eval("location.pathname").await;
    let second = second.as_str().unwrap().trim_start_matches("/runs/").to_owned();
    assert_ne!(second, run);
    assert_eq!(installation.ended(&second).await["number"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_shown_with_what_is_wrong_and_where() {
    let (installation, _worker, _browser, page) = started().await;
    let file = "pipeline:\n  steps:\n    - name: test\n      image: debian\n      comands: [make]\n";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    page.open(&format!("/runs/{run}")).await;
    page.shows(".platform.yaml:5:").await;
    page.shows("comands").await;
    page.pictures("run-broken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_says_for_what() {
    let (installation, _worker, _browser, page) = started().await;
    let (status, _) =
        installation.post("/api/v1/fleet/queues/steps/pause", json!({ "reason": "the disk is full" })).await;
    assert_eq!(status, 204);
    let project = installation
        .project("web", &[(".platform.yaml", GRAPH), ("compiler.txt", COMPILER), ("results.txt", RESULTS)])
        .await;
    let run = installation.trigger(&project).await;
    page.open(&format!("/runs/{run}")).await;
    page.shows("the disk is full").await;
    page.shows("Waits for build.").await;
    page.pictures("run-waiting").await;
    let (status, _) = installation.post("/api/v1/fleet/queues/steps/resume", json!({})).await;
    assert_eq!(status, 204);
    page.until("document.title.includes('failure')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_with_variables_and_goes_on_anew_from_a_step() {
    let (installation, _worker, _browser, page) = started().await;
    let file = "pipeline:
  variables: { profile: debug }
  steps:
    - { name: build, image: debian, commands: ['echo built ${custom.profile}'] }
    - { name: test, image: debian, commands: ['echo tested'] }
";
    installation.project("web", &[(".platform.yaml", file)]).await;
    page.open("/projects/web/pipelines/default").await;
    page.eval("document.querySelector('details.more').open = true").await;
    page.fill("textarea[name=variables]", "release").await;
    page.follow("main form[method=post] button").await;
    page.shows("is no line of the form NAME=value").await;
    page.open("/projects/web/pipelines/default").await;
    page.eval("document.querySelector('details.more').open = true").await;
    page.pictures("pipeline-variables").await;
    page.fill("textarea[name=variables]", "profile=release").await;
    page.follow("main form[method=post] button").await;
    page.until("document.title.includes('success')").await;
    page.shows("profile=release").await;
    let run = page.eval("location.pathname").await;
    let run = run.as_str().unwrap().trim_start_matches("/runs/").to_owned();
    assert!(installation.log(&run, "build").await.contains("built release"));

    page.open(&format!("/runs/{run}/steps/test")).await;
    page.shows("Retry from test").await;
    page.pictures("run-ended").await;
    page.follow("#retry-from").await;
    let again = installation.until(&run, "it ran anew", |run| {
        run["status"] == "success" && run["steps"][1]["attempts"].as_array().is_some_and(|all| all.len() == 2)
    });
    assert_eq!(
        again.await["steps"][0]["attempts"].as_array().unwrap().len(),
        1,
        "the step before it was left as it was"
    );
}
