use std::process::Command;

use buildit_shared::storage::{Checksum, S3Settings};
use buildit_tests::{
    api::client,
    eventually,
    forwarder::Forwarder,
    installation::{Installation, Worker, programs},
    s3,
};
use serde_json::Value;

fn id(run: &Value) -> &str {
    run["id"].as_str().unwrap()
}

/// The installation's connection to its bucket, which can be cut.
async fn forwarded() -> (Forwarder, S3Settings) {
    let settings = s3::settings();
    let endpoint = settings.endpoint.as_ref().unwrap();
    let server = format!("{}:{}", endpoint.host_str().unwrap(), endpoint.port_or_known_default().unwrap());
    let forwarder = Forwarder::start(server).await;
    let settings = s3::at(&settings, format!("http://{}", forwarder.address).parse().unwrap());
    (forwarder, settings)
}

/// Waits until the worker has met the outage so many times.
async fn has_waited(worker: &Worker, times: usize) {
    eventually("the worker waits", buildit_tests::PATIENCE, async || {
        worker.said().matches("waiting for it; going on shortly").count() >= times
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_run_leaves_its_objects_in_the_bucket() {
    let installation = Installation::with_s3(s3::settings()).await;
    let _worker = installation.worker();
    let file = "
pipeline:
  steps:
    - { name: make, image: debian, commands: [head -c 20000000 /dev/urandom > data.bin, sha256sum < data.bin], outputs: [data.bin] }
    - { name: use, image: debian, depends_on: [make], commands: [test -f .platform.yaml, sha256sum < data.bin] }
  artifacts:
    - { name: data, path: data.bin }
";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let (status, page) = installation.get(&format!("/api/v1/runs/{}/artifacts/data", id(&run))).await;
    assert_eq!(status, 200, "{page}");
    let file = &page["items"][0];
    let link = file["download_url"].as_str().unwrap();
    assert!(link.contains("X-Amz-Signature"), "{link}");
    let bytes = client().get(link).send().await.unwrap().bytes().await.unwrap();
    let sum = Checksum::of(&bytes).to_string();
    assert_eq!(file["sha256"], sum);
    for step in ["make", "use"] {
        let log = installation.log(id(&run), step).await;
        assert!(log.contains(&sum), "{step} said {log}, and {sum} came");
        let path = format!("{}/api/v1/runs/{}/steps/{step}/logs", installation.url, id(&run));
        let answer = installation.send(|client| client.get(&path)).await;
        let stored = client().get(answer.headers()["location"].to_str().unwrap()).send().await.unwrap();
        assert_eq!(stored.text().await.unwrap(), log);
        let followed = installation.send(|client| client.get(format!("{path}?follow=true"))).await;
        assert_eq!(followed.text().await.unwrap(), log);
    }
    let archive = format!("{}/api/v1/runs/{}/artifacts/data/archive", installation.url, id(&run));
    let archive = installation.send(|client| client.get(archive)).await.bytes().await.unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    assert_eq!(archive.by_name("data.bin").unwrap().size(), 20_000_000);
}

#[test]
fn without_a_key_in_the_settings_the_environment_names_one() {
    let settings = s3::settings();
    let key = settings.access_key.clone().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start = |secret: &str| {
        let mut worker = Command::new(programs().join("buildit"));
        worker.arg("worker").env_clear().env("HOME", folder.path()).current_dir(&folder);
        worker.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none").env("BUILDIT_SIGNING_KEY", "0".repeat(32));
        let ours = s3::variables(&settings).into_iter().filter(|(name, _)| !name.ends_with("_KEY"));
        worker.envs(ours).env("BUILDIT_DATA_DIR", folder.path()).env("BUILDIT_LOG", "debug");
        worker.env("AWS_ACCESS_KEY_ID", &key.id).env("AWS_SECRET_ACCESS_KEY", secret);
        let output = worker.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains(secret), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = start(&key.secret);
    assert_eq!(code, Some(3), "the store lets it in, and no database answers: {said}");
    assert!(!said.contains("starting without it"), "{said}");
    let (code, said) = start("some-other-secret");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("does not let us in"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_delays_a_run_and_loses_nothing() {
    let (store, settings) = forwarded().await;
    let installation = Installation::with_s3(settings).await;
    let gate = installation.shared.join("gate");
    let worker = installation.worker();
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: make, image: debian, commands: [echo begun, 'while ! test -e {0}; do sleep 0.1; done', echo made > made, echo done], outputs: [made] }}
    - {{ name: use, image: debian, depends_on: [make], commands: [cat made] }}
  artifacts:
    - {{ name: made, path: made }}
",
        gate.display()
    );
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    // Away when the commit is to be packed.
    store.cut();
    let run = installation.trigger(&project).await;
    has_waited(&worker, 2).await;
    assert_eq!(installation.run(&run).await["status"], "pending");
    store.mend();
    let at_work = |run: &Value| run["steps"][0]["status"] == "running" && run["steps"][0]["reason"].is_null();
    installation.until(&run, "the first step runs", at_work).await;
    // Away when the log and the outputs are to be kept.
    store.cut();
    std::fs::write(&gate, "").unwrap();
    has_waited(&worker, 4).await;
    let waiting = installation.run(&run).await;
    assert_eq!(waiting["steps"][0]["status"], "running", "{waiting:#}");
    assert!(waiting.to_string().contains("the object store does not answer"), "{waiting:#}");
    store.mend();
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert!(!run.to_string().contains("does not answer"), "{run:#}");
    assert!(installation.log(id(&run), "make").await.ends_with("done\n"));
    let made = installation.storage.get(&format!("artifacts/{}/made/made", id(&run))).await.unwrap();
    assert_eq!(made, "made\n");
    let counted = "select count(*) from job_errors union all select max(attempt)::bigint from job_history";
    let counted: Vec<i64> = sqlx::query_scalar(counted).fetch_all(&installation.pool).await.unwrap();
    assert_eq!(counted, [0, 1], "an outage is nobody's failed attempt");
}
