//! What becomes of steps whose pod, node, quota or namespace goes away, and that it is not their doing.

use buildit_tests::{PATIENCE, daemons, eventually, installation::Installation};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, EvictParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{notice, reason, started, step};

/// A run of one step with these commands, whose first attempt's pod runs; and the attempt.
async fn running(installation: &Installation, commands: &str) -> (String, String) {
    let file = format!(
        "pipeline:\n  steps:\n    - name: one\n      image: buildit.test/busybox:1\n      commands: [{commands}]"
    );
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let begun =
        installation.until(&run, "its first command runs", |run| attempt(run, 0)["log_length"].as_u64() > Some(0));
    let attempt = attempt(&begun.await, 0)["id"].as_str().unwrap().to_owned();
    (run, attempt)
}

fn attempt(run: &Value, nth: usize) -> &Value {
    &step(run, "one")["attempts"][nth]
}

fn attempts(run: &Value) -> usize {
    step(run, "one")["attempts"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_pod_is_a_lost_attempt_and_the_step_gets_another() {
    let (installation, _worker) = started().await;
    let (run, pod) = running(&installation, "echo begun, sleep 3").await;
    installation.cluster().pods().evict(&pod, &EvictParams::default()).await.unwrap();
    let run = installation.ended(&run).await;
    assert_eq!((run["status"].as_str(), attempts(&run)), (Some("success"), 2), "{run:#}");
    assert_eq!(attempt(&run, 0)["status"], "lost");
    assert!(reason(attempt(&run, 0)).contains("evicted"), "{run:#}");
}

/// Its deadline is there for what no time-out of ours ends, such as a pod whose runner hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_outlives_its_deadline_is_a_lost_attempt_and_the_step_gets_another() {
    let (installation, _worker) = started().await;
    let (run, pod) = running(&installation, "echo begun, sleep 20").await;
    let at_once = json!({ "spec": { "activeDeadlineSeconds": 1 } });
    installation.cluster().pods().patch(&pod, &PatchParams::default(), &Patch::Merge(at_once)).await.unwrap();
    let run = installation.ended(&run).await;
    assert_eq!((run["status"].as_str(), attempts(&run)), (Some("success"), 2), "{run:#}");
    assert_eq!(attempt(&run, 0)["status"], "lost");
    assert!(reason(attempt(&run, 0)).contains("outlived its deadline"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_while_no_worker_lives_is_found_lost_and_the_step_gets_another() {
    let (installation, first) = started().await;
    let (run, pod) = running(&installation, "echo begun, sleep 4").await;
    first.kill();
    let pods = installation.cluster().pods();
    pods.delete(&pod, &DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() }).await.unwrap();
    eventually("the pod is gone", PATIENCE, async || pods.get_opt(&pod).await.is_ok_and(|pod| pod.is_none())).await;
    let _second = installation.worker();
    let run = installation.ended(&run).await;
    assert_eq!((run["status"].as_str(), attempts(&run)), (Some("success"), 2), "{run:#}");
    assert_eq!(attempt(&run, 0)["status"], "lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_delays_a_step_with_its_own_words() {
    let (installation, _worker) = started().await;
    installation.cluster().limit_pods(0).await;
    let file = "pipeline:\n  steps:\n    - { name: one, image: buildit.test/busybox:1, commands: ['true'] }";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    installation.until(&run, "its readers are told", |run| notice(run, "one").contains("exceeded quota")).await;
    installation.cluster().lift_limit().await;
    let run = installation.ended(&run).await;
    assert_eq!((run["status"].as_str(), attempts(&run)), (Some("success"), 1), "{run:#}");
    assert_eq!(reason(attempt(&run, 0)), "", "what it waited for is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_delays_the_step_until_it_is_there_again() {
    let (installation, _worker) = started().await;
    let (run, _) = running(&installation, "echo begun, sleep 20").await;
    let cluster = installation.cluster();
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.delete(&cluster.namespace, &DeleteParams::default()).await.unwrap();
    let waits = |run: &Value| attempts(run) == 2 && notice(run, "one").contains(&cluster.namespace);
    let waiting = installation.until(&run, "its readers are told", waits).await;
    assert_eq!(attempt(&waiting, 0)["status"], "lost");
    eventually("the namespace is gone", PATIENCE, async || {
        namespaces.get_opt(&cluster.namespace).await.is_ok_and(|namespace| namespace.is_none())
    })
    .await;
    cluster.make_namespace().await;
    let run = installation.ended(&run).await;
    assert_eq!((run["status"].as_str(), attempts(&run)), (Some("success"), 2), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_for_a_while_loses_nothing() {
    let installation = Installation::alone_on_cluster().await;
    let _worker = installation.worker();
    let (run, _) = running(&installation, "echo begun, sleep 45, echo on").await;
    let frozen = daemons::freeze("kubelet");
    let told = |run: &Value| notice(run, "one").contains("node does not answer");
    installation.until(&run, "its readers are told", told).await;
    drop(frozen);
    let run = installation.ended(&run).await;
    assert_eq!((run["status"].as_str(), attempts(&run)), (Some("success"), 1), "{run:#}");
    assert_eq!(reason(attempt(&run, 0)), "", "what it waited for is over");
}

/// Deleted by force the pod is gone for the cluster, while its processes go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_with_the_old_pod_at_work_runs_no_command_beside_the_new_one() {
    let installation = Installation::alone_on_cluster().await;
    let _worker = installation.worker();
    let (run, pod) = running(&installation, "echo begun, sleep 4").await;
    let frozen = daemons::freeze("kubelet");
    let force = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    installation.cluster().pods().delete(&pod, &force).await.unwrap();
    // It has ended by itself and told the API, without the cluster.
    let run = installation.ended(&run).await;
    drop(frozen);
    assert_eq!((run["status"].as_str(), attempts(&run)), (Some("success"), 1), "{run:#}");
}
