//! Whole runs, and how their steps end.

use buildit_shared::storage::Checksum;
use buildit_tests::{api::client, daemons, eventually};

use super::{
    engine::{BUSYBOX, NOSHELL, variable},
    fleet::{Fleet, attempts, id, step},
};

fn one(image: &str, rest: &str) -> String {
    format!("pipeline:\n  steps:\n    - name: one\n      image: {image}\n{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_from_container_to_container_with_its_files_and_leaves_none() {
    let fleet = Fleet::start().await;
    let _worker = fleet.worker();
    let file = "
pipeline:
  steps:
    - { name: make, image: buildit.test/busybox:1, commands: [head -c 3000000 /dev/urandom > data.bin, sha256sum < data.bin, test -f .platform.yaml], outputs: [data.bin] }
    - { name: use, image: buildit.test/debian:1, commands: [sha256sum < data.bin, git log --oneline, pwd, 'echo \"${custom.greeting}\"'] }
  variables: { greeting: hello }
  artifacts:
    - { name: data, path: data.bin }
";
    let run = fleet.run_of(file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let (status, page) = fleet.installation.get(&format!("/api/v1/runs/{}/artifacts/data", id(&run))).await;
    assert_eq!(status, 200, "{page}");
    let link = page["items"][0]["download_url"].as_str().unwrap();
    let bytes = client().get(link).send().await.unwrap().bytes().await.unwrap();
    let sum = Checksum::of(&bytes).to_string();
    for name in ["make", "use"] {
        let log = fleet.installation.log(id(&run), name).await;
        assert!(log.contains(&sum), "{log}");
    }
    let log = fleet.installation.log(id(&run), "use").await;
    assert!(log.contains("a change\n") && log.contains("\n/workspace\n") && log.contains("\nhello\n"), "{log}");
    fleet.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_has_its_own_reason() {
    let _registry = daemons::Use::shared().await;
    let fleet = Fleet::start().await;
    let _worker = fleet.worker();
    let missing = format!("{}/nobody/has:this", variable("BUILDIT_TEST_REGISTRY"));
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: fails, image: '{BUSYBOX}', commands: ['true', sh -c 'exit 7'], depends_on: [] }}
    - {{ name: absent, image: '{BUSYBOX}', commands: [cargo test], depends_on: [] }}
    - {{ name: hungry, image: '{BUSYBOX}', commands: [tail /dev/zero], resources: {{ memory: 32Mi }}, depends_on: [] }}
    - {{ name: slow, image: '{BUSYBOX}', commands: [sleep 600], timeout: 1s, depends_on: [] }}
    - {{ name: nowhere, image: '{missing}', commands: ['true'], depends_on: [] }}
    - {{ name: plain, image: '{NOSHELL}', commands: ['/noshell a | /noshell b'], depends_on: [] }}
"
    );
    let run = fleet.run_of(&file).await;
    for (name, status, why) in [
        ("fails", "failure", "`sh -c 'exit 7'` ended with exit code 7"),
        ("absent", "failure", "`cargo test` was not found"),
        ("hungry", "failure", "memory ran out"),
        ("slow", "failure", "time-out of 1 s"),
        ("nowhere", "failure", "was not found"),
        ("plain", "error", "needs a shell"),
    ] {
        let step = step(&run, name);
        assert_eq!(step["status"], status, "{name}: {step:#}");
        assert!(step["reason"].as_str().unwrap().contains(why), "{name}: {step:#}");
        assert_eq!(attempts(&run, name).len(), 1, "{name}: {step:#}");
    }
    fleet.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_leaves_no_container_and_keeps_its_log() {
    let fleet = Fleet::start().await;
    let _worker = fleet.worker();
    let run = fleet.trigger(&one(BUSYBOX, "      commands: [echo begun, sleep 600]")).await;
    let shown = async || {
        let query = "select coalesce(max(log_len), 0) from step_attempts";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&fleet.installation.pool).await.unwrap() > 20
    };
    eventually("its log is followed", buildit_tests::PATIENCE, shown).await;
    let (status, _) = fleet.installation.post(&format!("/api/v1/runs/{run}/cancel"), serde_json::json!({})).await;
    assert_eq!(status, 202);
    let run = fleet.installation.ended(&run).await;
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert!(fleet.installation.log(id(&run), "one").await.contains("\nbegun\n"));
    fleet.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_registry_is_away_says_so_and_can_be_cancelled() {
    let fleet = Fleet::start().await;
    let _worker = fleet.worker();
    let nowhere = format!("{}:1/web:1", variable("BUILDIT_TEST_HOST"));
    let run = fleet.trigger(&one(&nowhere, "      commands: ['true']")).await;
    let said = |run: &serde_json::Value| {
        let said = attempts(run, "one").last().and_then(|attempt| attempt["reason"].as_str());
        said.is_some_and(|said| said.contains("cannot be pulled"))
    };
    fleet.installation.until(&run, "its readers are told", said).await;
    fleet.installation.post(&format!("/api/v1/runs/{run}/cancel"), serde_json::json!({})).await;
    assert_eq!(fleet.installation.ended(&run).await["status"], "cancelled");
}
