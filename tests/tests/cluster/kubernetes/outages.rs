//! Parts of the cluster that are away for a while, and what steps make of it.

use std::time::Duration;

use buildit_tests::{daemons, eventually, forwarder::Forwarder, installation::Installation, s3};
use serde_json::{Value, json};

use super::{id, notice, step};

/// Lines that a step prints, twenty a second.
const LINES: u32 = 800;

/// A step that prints for forty seconds, and one after it.
async fn talking(installation: &Installation) -> String {
    let file = format!(
        "
pipeline:
  steps:
    - name: one
      image: buildit.test/busybox:1
      commands: ['i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; sleep 0.05; done']
    - {{ name: after, image: buildit.test/busybox:1, commands: [echo done] }}
"
    );
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    logged(installation, 200).await;
    run
}

/// Waits until so many bytes of the log are stored.
async fn logged(installation: &Installation, bytes: i64) {
    eventually("the log is followed", buildit_tests::PATIENCE, async || {
        let query = "select coalesce(max(log_len), 0) from step_attempts";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&installation.pool).await.unwrap() > bytes
    })
    .await;
}

/// Each attempt was the only one, and every line is there once.
async fn nothing_was_lost(installation: &Installation, run: &Value) {
    assert_eq!(run["status"], "success", "{run:#}");
    for name in ["one", "after"] {
        assert_eq!(step(run, name)["attempts"].as_array().unwrap().len(), 1, "{run:#}");
    }
    let log = installation.log(id(run), "one").await;
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_for_thirty_seconds_is_a_pause() {
    let installation = Installation::alone_on_cluster().await;
    let _worker = installation.worker();
    let run = talking(&installation).await;
    let frozen = daemons::freeze("kube-apiserver");
    tokio::time::sleep(Duration::from_secs(30)).await;
    drop(frozen);
    let run = installation.ended(&run).await;
    nothing_was_lost(&installation, &run).await;
}

/// The watch breaks off, and where it was is forgotten: it is listed anew. The log stream breaks off as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_expired_and_a_log_stream_that_was_cut_are_taken_up_again() {
    let installation = Installation::alone_on_cluster().await;
    let worker = installation.worker();
    let run = talking(&installation).await;
    let killed = daemons::kill("kube-apiserver", "kubernetes");
    compact().await;
    drop(killed);
    let before = sqlx::query_scalar::<_, i64>("select max(log_len) from step_attempts");
    let before = before.fetch_one(&installation.pool).await.unwrap();
    logged(&installation, before).await;
    let run = installation.ended(&run).await;
    nothing_was_lost(&installation, &run).await;
    assert!(worker.said().contains("broke off"), "{}", worker.said());
}

/// Forgets every revision of the cluster's objects but the last, by etcd's own interface.
async fn compact() {
    let client = buildit_tests::api::client();
    let etcd = "http://127.0.0.1:12379/v3/kv";
    let range = json!({ "key": "AA==", "range_end": "AA==", "limit": "1", "keys_only": true });
    let answer = client.post(format!("{etcd}/range")).json(&range).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let compact = json!({ "revision": answer["header"]["revision"] });
    let answer = client.post(format!("{etcd}/compaction")).json(&compact).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_delays_a_step_with_the_kubelets_words() {
    let installation = Installation::alone_on_cluster().await;
    let _worker = installation.worker();
    let tag = unknown_tag().await;
    let file =
        format!("pipeline:\n  steps:\n    - {{ name: one, image: 'buildit.test/busybox:{tag}', commands: ['true'] }}");
    let killed = daemons::kill("registry", "registry");
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    installation.until(&run, "its readers are told", |run| notice(run, "one").contains("cannot be pulled")).await;
    drop(killed);
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(step(&run, "one")["attempts"].as_array().unwrap().len(), 1, "{run:#}");
}

/// A tag of busybox that no node has pulled yet.
async fn unknown_tag() -> String {
    let client = buildit_tests::api::client();
    let registry = std::env::var("BUILDIT_TEST_REGISTRY").expect("a registry, from `./dev cluster env`");
    let manifests = format!("http://{registry}/v2/busybox/manifests");
    let kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    let manifest = client.get(format!("{manifests}/1")).header("accept", kinds).send().await.unwrap();
    assert!(manifest.status().is_success(), "{}", manifest.status());
    let kind = manifest.headers()["content-type"].clone();
    // Other bytes, so that the node does not know it by its digest either.
    let tag = uuid::Uuid::new_v4().to_string();
    let mut manifest: Value = manifest.json().await.unwrap();
    manifest["annotations"] = json!({ "test": tag });
    let body = manifest.to_string();
    let put = client.put(format!("{manifests}/{tag}")).header("content-type", kind).body(body).send().await.unwrap();
    assert!(put.status().is_success(), "{}", put.text().await.unwrap());
    tag
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_is_away_while_outputs_are_staged_delays_the_step_and_loses_nothing() {
    let settings = s3::settings();
    let endpoint = settings.endpoint.clone().unwrap();
    let server = format!("{}:{}", endpoint.host_str().unwrap(), endpoint.port_or_known_default().unwrap());
    let host = std::env::var("BUILDIT_TEST_HOST").expect("an address, from `./dev cluster env`");
    let forwarder = Forwarder::start_at(&host, server).await;
    let through = format!("http://{}", forwarder.address).parse().unwrap();
    let installation = Installation::on_cluster_with_s3(s3::at(&settings, through)).await;
    let _worker = installation.worker();
    let file = "
pipeline:
  steps:
    - name: one
      image: buildit.test/busybox:1
      commands: [echo begun, sleep 2, head -c 20000000 /dev/urandom > data.bin, sha256sum data.bin > sum]
      outputs: [data.bin, sum]
    - { name: after, image: buildit.test/busybox:1, commands: [sha256sum -c sum] }
";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    logged(&installation, 20).await;
    forwarder.cut();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let waiting = installation.run(&run).await;
    assert_eq!(step(&waiting, "one")["status"], "running", "{waiting:#}");
    forwarder.mend();
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    for name in ["one", "after"] {
        assert_eq!(step(&run, name)["attempts"].as_array().unwrap().len(), 1, "{run:#}");
    }
}
