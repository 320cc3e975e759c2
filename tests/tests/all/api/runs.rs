//! Runs: started, listed, cancelled, and made by deliveries.

use buildit_tests::api::{Api, answer};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const ZERO: &str = "0000000000000000000000000000000000000000";

fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap_or_else(|| panic!("no page: {page}"))
}

async fn jobs(api: &Api) -> i64 {
    let row: (i64,) = sqlx::query_as("select count(*) from jobs").fetch_one(&api.database.pool).await.unwrap();
    row.0
}

#[tokio::test]
async fn a_run_is_started_with_its_job_and_read_back() {
    let api = Api::start().await;
    api.project("web").await;
    let (status, started) = api.post("/api/v1/projects/web/runs", json!({ "ref": "main" })).await;
    assert_eq!((status, &started["number"], &started["status"]), (201, &json!(1), &json!("pending")));
    assert_eq!(jobs(&api).await, 1);
    let (status, run) = api.get(started["url"].as_str().unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!((&run["ref"], &run["branch"]), (&json!("refs/heads/main"), &json!("main")));
    assert_eq!((&run["trigger"], &run["steps"], &run["pipeline"]), (&json!("api"), &json!([]), &json!("default")));
    let (_, second) = api.post("/api/v1/projects/web/runs", json!({ "ref": "refs/tags/v1", "commit": SHA })).await;
    let (_, run) = api.get(second["url"].as_str().unwrap()).await;
    assert_eq!((&run["number"], &run["branch"], &run["commit_sha"]), (&json!(2), &json!(null), &json!(SHA)));
}

#[tokio::test]
async fn the_older_shapes_start_and_show_the_same_runs() {
    let api = Api::start().await;
    let project = api.project("web").await;
    let (status, one) = api.post(&format!("/api/projects/{project}/pipelines"), json!({ "git_ref": "main" })).await;
    assert_eq!(status, 201, "{one}");
    let (_, pipelines) = api.get("/api/v1/projects/web/pipelines").await;
    let pipeline = pipelines["items"][0]["id"].as_str().unwrap();
    let (status, two) = api.post(&format!("/api/v1/pipelines/{pipeline}/runs"), json!({ "branch": "dev" })).await;
    assert_eq!((status, &two["number"]), (201, &json!(2)));
    for path in ["/api/v1/projects/web/runs", "/api/v1/runs", &format!("/api/v1/pipelines/{pipeline}/runs")] {
        let (_, page) = api.get(path).await;
        let ids: Vec<_> = items(&page).iter().map(|run| &run["id"]).collect();
        assert_eq!(ids, [&two["id"], &one["id"]], "{path}");
    }
    let (_, old) = api.get(&format!("/api/projects/web/pipelines/{}", one["id"].as_str().unwrap())).await;
    assert_eq!((&old["git_ref"], &old["ref"]), (&json!("refs/heads/main"), &json!("refs/heads/main")));
    assert_eq!(api.get("/api/projects/web/pipelines").await.1["items"][0]["git_ref"], "refs/heads/dev");
    // A run of one project is none of another's.
    api.project("other").await;
    assert_eq!(api.get(&format!("/api/projects/other/pipelines/{}", one["id"].as_str().unwrap())).await.0, 404);
}

#[tokio::test]
async fn refs_and_commits_that_git_would_misread_are_refused() {
    let api = Api::start().await;
    api.project("web").await;
    for body in [
        json!({ "ref": "--upload-pack=id" }),
        json!({ "ref": "a..b" }),
        json!({ "ref": "" }),
        json!({ "ref": "main\n" }),
        json!({ "ref": "main", "commit": "HEAD" }),
        json!({ "ref": "main", "commit": "0123" }),
        json!({ "ref": "main", "pipeline": "none" }),
    ] {
        assert_eq!(api.post("/api/v1/projects/web/runs", body.clone()).await.0, 422, "{body}");
    }
    assert_eq!(jobs(&api).await, 0);
}

#[tokio::test]
async fn a_run_is_started_with_variables_and_repeated_with_them() {
    let api = Api::start().await;
    api.project("web").await;
    for variables in [json!({ "a.b": "c" }), json!({ "a": 1 }), json!({ "a": "nul\u{0}" }), json!(["a"])] {
        let (status, body) = api.post("/api/v1/projects/web/runs", json!({ "variables": variables })).await;
        assert_eq!((status, &body["error"]["code"]), (422, &json!("invalid_request")), "{variables}");
    }
    let variables = json!({ "profile": "it's $(id)", "a-b": "" });
    let (status, started) = api.post("/api/v1/projects/web/runs", json!({ "variables": variables })).await;
    assert_eq!(status, 201, "{started}");
    let again = format!("/api/v1/runs/{}/rerun", started["id"].as_str().unwrap());
    let (_, again) = api.post(&again, json!({})).await;
    for run in [&started, &again] {
        assert_eq!(api.get(run["url"].as_str().unwrap()).await.1["variables"], variables);
    }
    let (_, audit) = api.get("/api/v1/audit?action=run.started").await;
    assert_eq!(items(&audit)[1]["after"]["variables"], json!(["a-b", "profile"]), "{audit}");
}

#[tokio::test]
async fn whoever_got_no_answer_asks_for_the_same_run_again() {
    let api = Api::start().await;
    api.project("web").await;
    let wish = json!({ "ref": "main", "delivery": Uuid::now_v7() });
    let (status, first) = api.post("/api/v1/projects/web/runs", wish.clone()).await;
    assert_eq!(status, 201, "{first}");
    let (status, again) = api.post("/api/v1/projects/web/runs", wish).await;
    assert_eq!((status, &again), (200, &first));
    let (_, other) = api.post("/api/v1/projects/web/runs", json!({ "delivery": Uuid::now_v7() })).await;
    assert_eq!(other["number"], 2);
    assert_eq!(jobs(&api).await, 2);
    assert_eq!(items(&api.get("/api/v1/audit?action=run.started").await.1).len(), 2);
}

#[tokio::test]
async fn a_watched_run_is_told_as_it_changes_until_it_has_ended() {
    let api = Api::start().await;
    let at = {
        api.project("web").await;
        api.running_step("web").await
    };
    let path = format!("/api/v1/runs/{}/events", at.run);
    let mut response = api.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    let told: Value = serde_json::from_str(text.trim().strip_prefix("event: run\ndata: ").unwrap()).unwrap();
    assert_eq!(told, api.get(&format!("/api/v1/runs/{}", at.run)).await.1);
    api.end_attempt(at.attempt, "failure").await;
    sqlx::query("update pipeline_runs set status = 'failure', finished_at = now(), open_steps = 0 where id = $1")
        .bind(at.run)
        .execute(&api.database.pool)
        .await
        .unwrap();
    api.end_step(at, "failure").await;
    let rest = tokio::time::timeout(std::time::Duration::from_secs(20), response.text()).await.unwrap().unwrap();
    let last = rest.trim().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&last["status"], &last["steps"][0]["status"]), (&json!("failure"), &json!("failure")));
}

#[tokio::test]
async fn runs_are_filtered_and_paged_newest_first() {
    let api = Api::start().await;
    api.project("web").await;
    for n in 0..5 {
        let git_ref = if n % 2 == 0 { "main" } else { "refs/tags/v1" };
        assert_eq!(api.post("/api/v1/projects/web/runs", json!({ "ref": git_ref })).await.0, 201);
    }
    sqlx::query("update pipeline_runs set status = 'success', finished_at = now() where number = 3")
        .execute(&api.database.pool)
        .await
        .unwrap();
    let numbers = async |query: &str| -> Vec<i64> {
        let (_, page) = api.get(&format!("/api/v1/projects/web/runs?{query}")).await;
        items(&page).iter().map(|run| run["number"].as_i64().unwrap()).collect()
    };
    assert_eq!(numbers("").await, [5, 4, 3, 2, 1]);
    assert_eq!(numbers("ref=main").await, [5, 3, 1]);
    assert_eq!(numbers("ref=refs/heads/main").await, [5, 3, 1]);
    assert_eq!(numbers("ref=refs/tags/v1").await, [4, 2]);
    assert_eq!(numbers("status=success").await, [3]);
    assert_eq!(numbers("status=pending,success&ref=main").await, [5, 3, 1]);
    assert_eq!(numbers("trigger=push").await, [0; 0]);
    assert_eq!(numbers("number=4").await, [4]);
    let (_, page) = api.get("/api/v1/projects/web/runs?limit=2").await;
    // A run that comes between two pages shifts nothing.
    assert_eq!(api.post("/api/v1/projects/web/runs", json!({})).await.0, 201);
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(numbers(&format!("limit=2&cursor={cursor}")).await, [3, 2]);
}

#[tokio::test]
async fn a_run_that_nobody_works_on_is_cancelled_at_once_and_once() {
    let api = Api::start().await;
    api.project("web").await;
    let (_, started) = api.post("/api/v1/projects/web/runs", json!({})).await;
    let cancel = format!("/api/v1/runs/{}/cancel", started["id"].as_str().unwrap());
    let (status, run) = api.post(&cancel, json!({})).await;
    assert_eq!((status, &run["status"]), (202, &json!("cancelled")), "{run}");
    assert_eq!(jobs(&api).await, 0);
    let (status, body) = api.post(&cancel, json!({})).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("run_ended")));
}

#[tokio::test]
async fn what_failed_is_retried_in_its_run_and_a_rerun_is_a_new_one() {
    let api = Api::start().await;
    api.project("web").await;
    let (_, started) = api.post("/api/v1/projects/web/runs", json!({})).await;
    let path = format!("/api/v1/runs/{}", started["id"].as_str().unwrap());
    let (status, body) = api.post(&format!("{path}/retry"), json!({})).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("run_active")));
    assert_eq!(api.post(&format!("{path}/cancel"), json!({})).await.0, 202);
    let (status, run) = api.post(&format!("{path}/retry"), json!({})).await;
    assert_eq!((status, &run["status"], &run["generation"]), (202, &json!("pending"), &json!(2)));
    let (status, again) = api.post(&format!("{path}/rerun"), json!({})).await;
    assert_eq!((status, &again["number"]), (201, &json!(2)));
}

fn push(delivery: Uuid, git_ref: &str, after: &str) -> Value {
    json!({ "delivery": delivery, "ref": git_ref, "before": ZERO, "after": after })
}

#[tokio::test]
async fn the_same_delivery_twice_makes_one_run() {
    let api = Api::start().await;
    api.project("web").await;
    let path = "/api/v1/projects/web/deliveries";
    let delivery = Uuid::now_v7();
    let (status, first) = api.post(path, push(delivery, "refs/heads/main", SHA)).await;
    assert_eq!((status, first["runs"].as_array().unwrap().len()), (201, 1));
    sqlx::query("update pipeline_runs set status = 'success', finished_at = now()")
        .execute(&api.database.pool)
        .await
        .unwrap();
    let (status, again) = api.post(path, push(delivery, "refs/heads/main", SHA)).await;
    assert_eq!((status, &again["runs"][0]["id"]), (200, &first["runs"][0]["id"]));
    assert_eq!(again["runs"][0]["status"], "success");
    let (_, run) = api.get(first["runs"][0]["url"].as_str().unwrap()).await;
    assert_eq!((&run["trigger"], &run["commit_sha"]), (&json!("push"), &json!(SHA)));
    // The same id for another project is another delivery.
    api.project("other").await;
    assert_eq!(api.post("/api/v1/projects/other/deliveries", push(delivery, "refs/heads/main", SHA)).await.0, 201);
}

#[tokio::test]
async fn a_delivery_sent_many_times_at_once_makes_one_run() {
    let api = Api::start().await;
    api.project("web").await;
    let delivery = push(Uuid::now_v7(), "refs/heads/main", SHA);
    let posts = (0..8).map(|_| api.post("/api/v1/projects/web/deliveries", delivery.clone()));
    let answers = futures::future::join_all(posts).await;
    let created = answers.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(created, 1, "{answers:?}");
    assert!(
        answers.iter().all(|(_, body)| body == &answers[0].1 || body["runs"][0]["id"] == answers[0].1["runs"][0]["id"])
    );
    assert_eq!(jobs(&api).await, 1);
}

#[tokio::test]
async fn a_push_that_leaves_nothing_to_run_is_accepted() {
    let api = Api::start().await;
    api.project("web").await;
    for (git_ref, after) in [("refs/heads/gone", ZERO), ("refs/notes/commits", SHA)] {
        let (status, body) = api.post("/api/v1/projects/web/deliveries", push(Uuid::now_v7(), git_ref, after)).await;
        assert_eq!((status, &body), (200, &json!({ "runs": [] })), "{git_ref}");
    }
    for (git_ref, after) in [("main", SHA), ("refs/heads/-a..b", SHA), ("refs/heads/main", "HEAD")] {
        let (status, _) = api.post("/api/v1/projects/web/deliveries", push(Uuid::now_v7(), git_ref, after)).await;
        assert_eq!(status, 422, "{git_ref} {after}");
    }
    assert_eq!(jobs(&api).await, 0);
}

#[tokio::test]
async fn a_run_shows_its_steps_with_their_attempts() {
    let api = Api::start().await;
    api.project("web").await;
    let at = api.running_step("web").await;
    api.append(at.attempt, b"hello\n").await;
    api.end_attempt(at.attempt, "lost").await;
    api.attempt(at.step, 2).await;
    let (_, run) = api.get(&format!("/api/v1/runs/{}", at.run)).await;
    let step = &run["steps"][0];
    assert_eq!((&step["name"], &step["status"]), (&json!("test"), &json!("running")));
    let attempts = step["attempts"].as_array().unwrap();
    assert_eq!(attempts.iter().map(|one| one["status"].as_str().unwrap()).collect::<Vec<_>>(), ["lost", "running"]);
    assert_eq!(attempts[0]["log_length"], 6);
    assert_eq!(
        answer(api.request(Method::GET, step["log_url"].as_str().unwrap()).query(&[("follow", "false")])).await.0,
        200
    );
}
