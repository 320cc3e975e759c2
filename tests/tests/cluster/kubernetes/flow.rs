//! Whole runs.

use buildit_shared::storage::Checksum;
use buildit_tests::api::client;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};

use super::{id, run_of, started, step};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_from_pod_to_pod_with_its_files_and_leaves_no_pod() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: make, image: buildit.test/busybox:1, commands: [head -c 3000000 /dev/urandom > data.bin, sha256sum < data.bin, test -f .platform.yaml], outputs: [data.bin] }
    - { name: use, image: buildit.test/debian:1, commands: [sha256sum < data.bin, git log --oneline, pwd, 'echo \"${custom.greeting}\"'] }
  variables: { greeting: hello }
  artifacts:
    - { name: data, path: data.bin }
";
    let run = run_of(&installation, file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let (status, page) = installation.get(&format!("/api/v1/runs/{}/artifacts/data", id(&run))).await;
    assert_eq!(status, 200, "{page}");
    let link = page["items"][0]["download_url"].as_str().unwrap();
    let bytes = client().get(link).send().await.unwrap().bytes().await.unwrap();
    let sum = Checksum::of(&bytes).to_string();
    for name in ["make", "use"] {
        let log = installation.log(id(&run), name).await;
        assert!(log.contains(&sum), "{log}");
    }
    let log = installation.log(id(&run), "use").await;
    assert!(log.contains("a change\n") && log.contains("\n/workspace\n") && log.contains("\nhello\n"), "{log}");
    installation.cluster().is_empty().await;
    let secrets: Api<Secret> =
        Api::namespaced(installation.cluster().client.clone(), &installation.cluster().namespace);
    buildit_tests::eventually("no Secret is left", buildit_tests::PATIENCE, async || {
        secrets.list(&ListParams::default()).await.is_ok_and(|secrets| secrets.items.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_step_but_its_image_is_in_the_pods_spec() {
    let installation = buildit_tests::installation::Installation::on_cluster().await;
    let _worker = installation.worker();
    installation.set_secret("TOKEN", "hush-hush-hush").await;
    let file = "
pipeline:
  steps:
    - name: wait
      image: buildit.test/busybox:1
      environment: { TOKEN: '${{ secrets.TOKEN }}', PLAIN: seen-by-nobody }
      commands: ['echo \"token is $TOKEN\"', sleep 600]
";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    let pods = installation.cluster().pods();
    installation.until(&run, "the step runs", |run| step(run, "wait")["status"] == "running").await;
    let running = async || pods.list(&ListParams::default()).await.ok()?.items.into_iter().next();
    buildit_tests::eventually("its pod is there", buildit_tests::PATIENCE, async || running().await.is_some()).await;
    let pod = running().await.unwrap();
    let text = serde_json::to_string(&pod).unwrap();
    for hidden in ["hush", "seen-by-nobody", "sleep 600", "bia_"] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
    let secrets: Api<Secret> =
        Api::namespaced(installation.cluster().client.clone(), &installation.cluster().namespace);
    let name = format!("step-{}", pod.metadata.name.as_ref().unwrap());
    buildit_tests::eventually("the pod owns its Secret", buildit_tests::PATIENCE, async || {
        let owners = secrets.get(&name).await.unwrap().metadata.owner_references.unwrap_or_default();
        owners.iter().any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
    })
    .await;
    let labels = pod.metadata.labels.clone().unwrap();
    assert_eq!(labels["platform.io/pipeline"], run);
    assert_eq!(labels["platform.io/step"], "wait");
    let spec = pod.spec.unwrap();
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(spec.containers.len(), 1);
    assert!(spec.init_containers.is_none_or(|containers| containers.is_empty()));
    assert_eq!(spec.containers[0].security_context.as_ref().unwrap().allow_privilege_escalation, Some(false));

    buildit_tests::eventually("its log is followed", buildit_tests::PATIENCE, async || {
        let query = "select coalesce(max(log_len), 0) from step_attempts";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&installation.pool).await.unwrap() > 40
    })
    .await;
    let (status, _) = installation.post(&format!("/api/v1/runs/{run}/cancel"), serde_json::json!({})).await;
    assert_eq!(status, 202);
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "cancelled", "{run:#}");
    installation.cluster().is_empty().await;
    let log = installation.log(id(&run), "wait").await;
    assert!(log.contains("token is ***") && !log.contains("hush"), "{log}");
}
