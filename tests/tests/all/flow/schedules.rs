//! Runs that the clock starts.

use std::time::Duration;

use buildit_tests::{eventually, installation::Installation};
use serde_json::{Value, json};

use super::{id, started};

const LIMIT: Duration = Duration::from_secs(60);

fn file(cron: &str) -> String {
    format!(
        "
pipeline:
  on:
    push: {{}}
    schedule: {{ cron: '{cron}', timezone: Europe/Berlin }}
  steps:
    - {{ name: a, image: debian, commands: ['true'] }}
"
    )
}

async fn schedules(installation: &Installation) -> Vec<Value> {
    let (_, page) = installation.get("/api/v1/projects/nightly/schedules").await;
    page["items"].as_array().unwrap().clone()
}

async fn runs(installation: &Installation, trigger: &str) -> Vec<Value> {
    let (_, page) = installation.get(&format!("/api/v1/projects/nightly/runs?trigger={trigger}")).await;
    page["items"].as_array().unwrap().clone()
}

/// As after a night in which nobody was there.
async fn make_due(installation: &Installation) {
    sqlx::query("update schedules set next_at = next_at - interval '3 days'")
        .execute(&installation.pool)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_started_once_by_whoever_is_there_however_often_it_was_missed() {
    let (installation, _worker) = started().await;
    let _others = [installation.worker(), installation.worker()];
    let project = installation.project("nightly", &[(".platform.yaml", &file("0 3 * * *"))]).await;
    installation.ended(&installation.trigger(&project).await).await;
    let found = schedules(&installation).await;
    assert_eq!((&found[0]["cron"], &found[0]["timezone"]), (&json!("0 3 * * *"), &json!("Europe/Berlin")));
    assert_eq!(found[0]["next"].as_array().unwrap().len(), 5);
    let next = found[0]["next"][0].clone();
    assert!(["01:00:00Z", "02:00:00Z"].iter().any(|hour| next.as_str().unwrap().ends_with(hour)), "{next}");
    make_due(&installation).await;
    eventually("it is started", LIMIT, async || !runs(&installation, "schedule").await.is_empty()).await;
    let run = installation.ended(id(&runs(&installation, "schedule").await[0])).await;
    assert_eq!((&run["status"], &run["ref"]), (&json!("success"), &json!("refs/heads/main")), "{run:#}");
    assert_eq!(schedules(&installation).await[0]["next"][0], next, "the next one is in the future");
    assert_eq!(runs(&installation, "schedule").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_commit_of_the_default_branch_says_when() {
    let (installation, _worker) = started().await;
    let project = installation.project("nightly", &[(".platform.yaml", &file("0 3 * * *"))]).await;
    let first = installation.ended(&installation.trigger(&project).await).await;
    let crons = async || schedules(&installation).await.iter().map(|one| one["cron"].clone()).collect::<Vec<_>>();
    assert_eq!(crons().await, ["0 3 * * *"]);
    project.commit(&[(".platform.yaml", &file("0 4 * * *"))]);
    project.push(&["main:other"]);
    let other = installation.trigger_at(&project, "other").await;
    installation.ended(&other).await;
    assert_eq!(crons().await, ["0 3 * * *"], "another branch says nothing");
    installation.ended(&installation.trigger(&project).await).await;
    assert_eq!(crons().await, ["0 4 * * *"]);
    let again = format!("/api/v1/runs/{}/rerun", id(&first));
    let (status, again) = installation.post(&again, json!({})).await;
    assert_eq!(status, 201, "{again}");
    installation.ended(id(&again)).await;
    assert_eq!(crons().await, ["0 4 * * *"], "an older commit says nothing");
    project.commit(&[(".platform.yaml", "pipeline: { steps: [{ name: a, image: debian, commands: ['true'] }] }")]);
    installation.ended(&installation.trigger(&project).await).await;
    assert!(crons().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_configs_schedule_counts_from_when_it_is_stored() {
    let (installation, _worker) = started().await;
    installation.project("nightly", &[("README", "no pipeline file")]).await;
    let body = json!({ "name": "stored", "config": file("30 4 * * 1") });
    let (status, made) = installation.post("/api/v1/projects/nightly/pipelines", body).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(schedules(&installation).await[0]["cron"], "30 4 * * 1");
    make_due(&installation).await;
    sqlx::query("update schedules set next_at = now()").execute(&installation.pool).await.unwrap();
    eventually("it is started", LIMIT, async || !runs(&installation, "schedule").await.is_empty()).await;
    let change = format!("{}/api/v1/pipelines/{}", installation.url, id(&made));
    installation.send(|client| client.patch(change).json(&json!({ "file": "a.yaml" }))).await;
    assert!(schedules(&installation).await.is_empty());
}
