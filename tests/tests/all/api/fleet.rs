//! The operator's view of jobs, queues and workers.

use buildit_shared::ids::JobId;
use buildit_tests::api::Api;
use serde_json::{Value, json};

async fn history(api: &Api, kind: &str, end: &str) -> JobId {
    let id = JobId::new();
    sqlx::query(
        "insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, enqueued_at,
                                  error)
         values ($1, $2, 'bench', $3::job_end, 0, '{\"v\": 1, \"n\": 7}', 3, 3, 0, now(), $4)",
    )
    .bind(id)
    .bind(kind)
    .bind(end)
    .bind(if end == "dead" { Some("it broke: no space left") } else { None })
    .execute(&api.database.pool)
    .await
    .unwrap();
    id
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

async fn run(api: &Api) -> (String, String) {
    let (_, started) = api.post("/api/v1/projects/web/runs", json!({})).await;
    let (_, jobs) = api.get("/api/v1/fleet/jobs?kind=RunPipeline&state=ready&limit=1").await;
    (started["id"].as_str().unwrap().to_owned(), ids(&jobs)[0].clone())
}

#[tokio::test]
async fn live_and_ended_jobs_are_one_list_with_filters_and_pages() {
    let api = Api::start().await;
    let project = api.project("web").await;
    let (_, live) = run(&api).await;
    let good = history(&api, "Noop", "succeeded").await.to_string();
    let dead = history(&api, "Noop", "dead").await.to_string();
    let list = async |query: &str| ids(&api.get(&format!("/api/v1/fleet/jobs?{query}")).await.1);
    assert_eq!(list("").await, [&*dead, &*good, &*live]);
    assert_eq!(list("state=dead").await, [&*dead]);
    assert_eq!(list("state=ready,succeeded").await, [&*good, &*live]);
    assert_eq!(list("kind=RunPipeline").await, [&*live]);
    assert_eq!(list("queue=bench").await, [&*dead, &*good]);
    assert_eq!(list(&format!("project={project}")).await, [&*live]);
    assert_eq!(list("text=No+Space").await, [&*dead]);
    assert_eq!(list(&format!("text={good}")).await, [&*good]);
    let (_, page) = api.get("/api/v1/fleet/jobs?limit=2").await;
    assert_eq!(ids(&page), [&*dead, &*good]);
    assert_eq!(list(&format!("limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await, [&*live]);
    assert_eq!(api.get("/api/v1/fleet/jobs?state=lost").await.0, 422);
}

#[tokio::test]
async fn a_job_is_read_with_the_errors_of_its_attempts() {
    let api = Api::start().await;
    let id = history(&api, "Noop", "dead").await;
    for attempt in 1..=2 {
        sqlx::query("insert into job_errors (job_id, attempt, kind, error) values ($1, $2, 'failed', 'no answer')")
            .bind(id)
            .bind(attempt)
            .execute(&api.database.pool)
            .await
            .unwrap();
    }
    let (_, job) = api.get(&format!("/api/v1/fleet/jobs/{id}")).await;
    assert_eq!((&job["state"], &job["error"]), (&json!("dead"), &json!("it broke: no space left")));
    let attempts: Vec<_> = job["errors"].as_array().unwrap().iter().map(|error| error["attempt"].as_i64()).collect();
    assert_eq!(attempts, [Some(1), Some(2)]);
    assert_eq!(api.get(&format!("/api/v1/fleet/jobs/{}", JobId::new())).await.0, 404);
}

#[tokio::test]
async fn a_discarded_job_ends_its_run_and_its_retry_begins_the_run_again() {
    let api = Api::start().await;
    api.project("web").await;
    let (run, job) = run(&api).await;
    let (status, discarded) = api.post(&format!("/api/v1/fleet/jobs/{job}/discard"), json!({})).await;
    assert_eq!((status, &discarded["state"]), (202, &json!("discarded")));
    let (_, ended) = api.get(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(ended["status"], "error");
    assert!(ended["reason"].as_str().unwrap().contains("discarded by key all"), "{ended}");
    let (status, error) = api.post(&format!("/api/v1/fleet/jobs/{job}/discard"), json!({})).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("job_state")));
    assert_eq!(api.post(&format!("/api/v1/fleet/jobs/{job}/retry"), json!({})).await.0, 202);
    let (_, again) = api.get(&format!("/api/v1/runs/{run}")).await;
    assert_eq!((&again["status"], &again["generation"]), (&json!("pending"), &json!(2)));
    // Twice is once too many: the run is at work again.
    assert_eq!(api.post(&format!("/api/v1/fleet/jobs/{job}/retry"), json!({})).await.0, 409);
}

#[tokio::test]
async fn a_cancelled_job_cancels_its_run() {
    let api = Api::start().await;
    api.project("web").await;
    let (run, job) = run(&api).await;
    let (status, cancelled) = api.post(&format!("/api/v1/fleet/jobs/{job}/cancel"), json!({})).await;
    assert_eq!((status, &cancelled["state"]), (202, &json!("cancelled")));
    assert_eq!(api.get(&format!("/api/v1/runs/{run}")).await.1["status"], "cancelled");
}

#[tokio::test]
async fn dead_jobs_are_retried_in_bulk_and_what_cannot_be_done_is_told() {
    let api = Api::start().await;
    let dead: Vec<_> = [history(&api, "Noop", "dead").await, history(&api, "Noop", "dead").await].to_vec();
    let good = history(&api, "Noop", "succeeded").await;
    let (status, outcome) =
        api.post("/api/v1/fleet/jobs/bulk", json!({ "action": "retry", "ids": [dead[0], good, JobId::new()] })).await;
    assert_eq!((status, &outcome["done"], outcome["skipped"].as_array().unwrap().len()), (200, &json!(1), 2));
    assert_eq!(outcome["skipped"][0]["reason"], "it succeeded");
    let filter = json!({ "action": "retry", "filter": { "state": "dead", "kind": "Noop" } });
    let (_, outcome) = api.post("/api/v1/fleet/jobs/bulk", filter).await;
    assert_eq!(outcome, json!({ "done": 1, "skipped": [], "more": false }));
    let (_, ready) = api.get("/api/v1/fleet/jobs?state=ready").await;
    assert_eq!(ids(&ready), [dead[1].to_string(), dead[0].to_string()]);
    assert_eq!(ready["items"][0]["attempt"], 0);
    assert_eq!(api.post("/api/v1/fleet/jobs/bulk", json!({ "action": "retry" })).await.0, 422);
}

#[tokio::test]
async fn a_queue_is_paused_with_a_reason_and_resumed() {
    let api = Api::start().await;
    api.project("web").await;
    run(&api).await;
    let queue = async || {
        let (_, queues) = api.get("/api/v1/fleet/queues").await;
        queues["items"].as_array().unwrap().iter().find(|queue| queue["name"] == "pipelines").unwrap().clone()
    };
    let before = queue().await;
    assert_eq!((&before["ready"], &before["paused"]), (&json!(1), &json!(false)));
    let body = json!({ "reason": "the registry is down" });
    assert_eq!(api.post("/api/v1/fleet/queues/pipelines/pause", body).await.0, 204);
    let paused = queue().await;
    assert_eq!((&paused["paused"], &paused["paused_reason"]), (&json!(true), &json!("the registry is down")));
    assert_eq!(paused["paused_by"], "key all");
    assert_eq!(api.post("/api/v1/fleet/queues/pipelines/resume", json!({})).await.0, 204);
    assert_eq!(queue().await["paused"], false);
}

#[tokio::test]
async fn a_queue_is_paused_without_a_word_too() {
    let api = Api::start().await;
    let url = format!("{}/api/v1/fleet/queues/steps/pause", api.url);
    let pause = async |body: Option<&'static str>| {
        let request = buildit_tests::api::client().post(&url).bearer_auth(&api.key);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(pause(None).await, 204);
    let (_, queues) = api.get("/api/v1/fleet/queues").await;
    let steps = queues["items"].as_array().unwrap().iter().find(|queue| queue["name"] == "steps").unwrap();
    assert_eq!((&steps["paused"], &steps["paused_reason"]), (&json!(true), &json!(null)));
    assert_eq!(pause(Some("")).await, 204);
    assert_eq!(pause(Some(r#"{ "reason": "maintenance" }"#)).await, 204);
    assert_eq!(pause(Some("{")).await, 400);
    assert_eq!(pause(Some(r#"{ "reason": 1 }"#)).await, 422);
}

#[tokio::test]
async fn workers_are_shown_with_what_they_hold() {
    let api = Api::start().await;
    for (host, state) in [("one", "alive"), ("two", "dead")] {
        sqlx::query(
            "insert into workers (id, host, pid, version, queues, slots, state, ended_at)
             values ($1, $2, 1, '0.1.0', '{steps,pipelines}', '{4,2}', $3::worker_state, case when $3 = 'dead' then now() end)",
        )
        .bind(uuid::Uuid::now_v7())
        .bind(host)
        .bind(state)
        .execute(&api.database.pool)
        .await
        .unwrap();
    }
    let (_, workers) = api.get("/api/v1/fleet/workers").await;
    assert_eq!(workers["items"].as_array().unwrap().len(), 1);
    assert_eq!(workers["items"][0]["queues"], json!({ "pipelines": 2, "steps": 4 }));
    assert_eq!(api.get("/api/v1/fleet/workers?all=true").await.1["items"].as_array().unwrap().len(), 2);
}
