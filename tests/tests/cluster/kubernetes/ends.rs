//! How steps end, whose doing it was, and what the run says of it.

use buildit_tests::installation::Installation;

use super::{id, notice, reason, run_of, started, step};

/// The only step of a pipeline with this image and these lines.
fn one(image: &str, rest: &str) -> String {
    format!("pipeline:\n  steps:\n    - name: one\n      image: {image}\n{rest}")
}

/// Runs one step and returns its status, exit code and reason.
async fn end_of(installation: &Installation, image: &str, rest: &str) -> (String, serde_json::Value, String) {
    let run = run_of(installation, &one(image, rest)).await;
    let step = step(&run, "one").clone();
    (step["status"].as_str().unwrap().into(), step["exit_code"].clone(), reason(&step).into())
}

const BUSYBOX: &str = "buildit.test/busybox:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_names_itself() {
    let (installation, _worker) = started().await;
    let (status, code, why) = end_of(&installation, BUSYBOX, "      commands: ['true', sh -c 'exit 7']").await;
    assert_eq!((status.as_str(), code), ("failure", 7.into()));
    assert_eq!(why, "`sh -c 'exit 7'` ended with exit code 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_above_128_and_signals_are_told_as_what_they_were() {
    let (installation, _worker) = started().await;
    let steps =
        [("code137", "exit 137"), ("code143", "exit 143"), ("kill", "kill -KILL $$"), ("term", "kill -TERM $$")];
    let list: String = steps
        .iter()
        .map(|(name, command)| {
            format!("    - {{ name: {name}, image: {BUSYBOX}, depends_on: [], commands: ['{command}'] }}\n")
        })
        .collect();
    let run = run_of(&installation, &format!("pipeline:\n  steps:\n{list}")).await;
    let end = |name: &str| (step(&run, name)["status"].clone(), step(&run, name)["exit_code"].clone());
    for (name, code) in [("code137", 137), ("code143", 143), ("kill", 137), ("term", 143)] {
        assert_eq!(end(name), ("failure".into(), code.into()), "{name}: {run:#}");
        assert_eq!(step(&run, name)["attempts"].as_array().unwrap().len(), 1, "{run:#}");
    }
    assert!(reason(step(&run, "code143")).contains("exit code 143"), "{run:#}");
    for (name, signal) in [("kill", "signal 9"), ("term", "signal 15")] {
        assert!(reason(step(&run, name)).contains(signal), "{run:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_name_is_no_name_never_gets_a_pod() {
    let (installation, _worker) = started().await;
    let run = run_of(&installation, &one("buildit.test/Busybox:1", "      commands: ['true']")).await;
    assert_eq!(run["status"], "error", "{run:#}");
    assert!(run["diagnostics"].to_string().contains("buildit.test/Busybox:1"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_runs_out_in_a_child_is_noted_though_the_step_goes_on() {
    let (installation, _worker) = started().await;
    let rest = "      resources: { memory: 32Mi }\n      commands: ['tail /dev/zero || echo went on']";
    let run = run_of(&installation, &one(BUSYBOX, rest)).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert!(run["notes"].to_string().contains("killed since memory ran out"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_missing_is_said() {
    let (installation, _worker) = started().await;
    let (status, code, why) = end_of(&installation, BUSYBOX, "      commands: [cargo test]").await;
    assert_eq!((status.as_str(), code), ("failure", 127.into()));
    assert!(why.contains("`cargo test` was not found"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_the_users_affair() {
    let (installation, _worker) = started().await;
    let (status, _, why) = end_of(&installation, "buildit.test/nobody/has:this", "      commands: ['true']").await;
    assert_eq!(status, "failure", "{why}");
    assert!(why.contains("buildit.test/nobody/has:this") && why.contains("not found"), "{why}");
    installation.cluster().is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_much_memory_is_told_so() {
    let (installation, _worker) = started().await;
    let rest = "      resources: { memory: 32Mi }\n      commands: [tail /dev/zero]";
    let (status, code, why) = end_of(&installation, BUSYBOX, rest).await;
    assert_eq!(status, "failure", "{why}");
    assert_eq!(code, 137);
    assert!(why.contains("memory"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_outlasts_its_time_is_stopped() {
    let (installation, _worker) = started().await;
    let (status, _, why) = end_of(&installation, BUSYBOX, "      timeout: 1s\n      commands: [sleep 600]").await;
    assert_eq!(status, "failure");
    assert!(why.contains("time-out of 1 s"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_shell_runs_plain_commands_and_refuses_others() {
    let (installation, _worker) = started().await;
    let run =
        run_of(&installation, &one("buildit.test/noshell:1", "      commands: [/noshell hello $COMMIT_BRANCH]")).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert!(installation.log(id(&run), "one").await.contains("main"));
    let project = installation
        .project(
            "pipes",
            &[(".platform.yaml", &one("buildit.test/noshell:1", "      commands: ['/noshell a | /noshell b']"))],
        )
        .await;
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    assert_eq!(step(&run, "one")["status"], "error", "{run:#}");
    assert!(reason(step(&run, "one")).contains("shell"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_no_node_takes_waits_with_the_schedulers_words() {
    let (installation, _worker) = started().await;
    let file = one(BUSYBOX, "      resources: { cpu: \"500\" }\n      commands: ['true']");
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let waiting = installation.until(&run, "its readers are told", |run| notice(run, "one").contains("cpu")).await;
    assert!(notice(&waiting, "one").contains("waits for a node: 0/1 nodes are available"), "{waiting:#}");
    installation.post(&format!("/api/v1/runs/{run}/cancel"), serde_json::json!({})).await;
    assert_eq!(installation.ended(&run).await["status"], "cancelled");
    installation.cluster().is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_by_hand_is_a_lost_attempt_and_the_step_gets_another() {
    let (installation, _worker) = started().await;
    let file = one(BUSYBOX, "      commands: [echo begun, sleep 3]");
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let attempt_of = |run: &serde_json::Value| step(run, "one")["attempts"][0]["id"].as_str().map(str::to_owned);
    let running =
        installation.until(&run, "it prints", |run| step(run, "one")["attempts"][0]["status"] == "running").await;
    let attempt = attempt_of(&running).unwrap();
    let pods = installation.cluster().pods();
    buildit_tests::eventually("its pod runs", buildit_tests::PATIENCE, async || {
        let phase = pods.get_opt(&attempt).await.ok().flatten().and_then(|pod| pod.status?.phase);
        phase.as_deref() == Some("Running")
    })
    .await;
    pods.delete(&attempt, &kube::api::DeleteParams::default()).await.unwrap();
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let attempts = step(&run, "one")["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{run:#}");
    assert_eq!(attempts[0]["status"], "lost");
}
