//! The audit log: every change, with who, what, when and from where.

use buildit_shared::permission::{Permission, Role};
use buildit_tests::api::{Api, answer};
use reqwest::Method;
use serde_json::{Value, json};

async fn entries(api: &Api, query: &str) -> Vec<Value> {
    let (status, page) = api.get(&format!("/api/v1/audit?limit=200&{query}")).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().rev().map(|entry| entry["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_change_is_written_down() {
    let api = Api::start().await;
    let project = api.project("web").await;
    let change = async |method: Method, path: &str, body: Value| {
        let (status, answered) = answer(api.request(method.clone(), path).json(&body)).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answered}");
        answered
    };
    change(Method::PATCH, "/api/v1/projects/web", json!({ "default_branch": "trunk" })).await;
    let pipeline =
        change(Method::POST, "/api/v1/projects/web/pipelines", json!({ "name": "a", "file": "a.yaml" })).await;
    let pipeline = format!("/api/v1/pipelines/{}", pipeline["id"].as_str().unwrap());
    change(Method::PATCH, &pipeline, json!({ "name": "b" })).await;
    change(Method::DELETE, &pipeline, json!({})).await;
    let run = change(Method::POST, "/api/v1/projects/web/runs", json!({})).await;
    let run = format!("/api/v1/runs/{}", run["id"].as_str().unwrap());
    change(Method::POST, &format!("{run}/cancel"), json!({})).await;
    change(Method::POST, &format!("{run}/retry"), json!({})).await;
    change(Method::POST, &format!("{run}/rerun"), json!({})).await;
    let key = change(Method::POST, "/api/v1/api-keys", json!({ "name": "ci", "permissions": ["run:trigger"] })).await;
    change(Method::DELETE, &format!("/api/v1/api-keys/{}", key["id"].as_str().unwrap()), json!({})).await;
    let invited =
        change(Method::POST, "/api/v1/invitations", json!({ "email": "a@b.example", "role": "viewer" })).await;
    change(Method::DELETE, &format!("/api/v1/invitations/{}", invited["id"].as_str().unwrap()), json!({})).await;
    let found = entries(&api, "").await;
    assert_eq!(
        actions(&found),
        [
            "project.created",
            "project.updated",
            "pipeline.created",
            "pipeline.updated",
            "pipeline.deleted",
            "run.started",
            "run.cancelled",
            "run.retried",
            "run.started",
            "api_key.created",
            "api_key.revoked",
            "invitation.created",
            "invitation.withdrawn",
        ]
    );
    let updated = &found[found.len() - 2];
    assert_eq!((&updated["actor"], &updated["address"]), (&json!("key all"), &json!("127.0.0.1")));
    assert_eq!((&updated["subject"], &updated["subject_id"]), (&json!("web"), &json!(project)));
    assert_eq!(updated["before"]["default_branch"], "main");
    assert_eq!(updated["after"]["default_branch"], "trunk");
}

#[tokio::test]
async fn what_did_not_happen_is_not_written_down() {
    let api = Api::start().await;
    api.project("web").await;
    api.running_step("web").await;
    let before = entries(&api, "").await.len();
    assert_eq!(answer(api.request(Method::DELETE, "/api/v1/projects/web")).await.0, 409);
    assert_eq!(
        api.post("/api/v1/projects", json!({ "name": "web", "repository": "https://git.example/a" })).await.0,
        409
    );
    assert_eq!(entries(&api, "").await.len(), before);
}

#[tokio::test]
async fn what_people_do_carries_their_name_and_their_coming_and_going_is_seen() {
    let api = Api::start().await;
    let cookie = api.signed_in("ada@acme.example", Role::Owner).await;
    let person = api.as_person(Method::POST, "/api/v1/projects", &cookie);
    let (status, _) = answer(person.json(&json!({ "name": "web", "repository": "https://git.example/a" }))).await;
    assert_eq!(status, 201);
    assert_eq!(answer(api.as_person(Method::DELETE, "/api/v1/session", &cookie)).await.0, 204);
    let found = entries(&api, "").await;
    assert_eq!(actions(&found), ["session.opened", "project.created", "session.ended"]);
    assert!(found.iter().all(|entry| entry["actor"] == "ada@acme.example"), "{found:?}");
    let user = found[0]["user_id"].as_str().unwrap();
    assert_eq!(entries(&api, &format!("user={user}&action=project.")).await.len(), 1);
}

#[tokio::test]
async fn what_operators_do_is_the_installations_and_for_them_alone() {
    let api = Api::start().await;
    for path in ["/api/v1/fleet/queues/steps/pause", "/api/v1/fleet/queues/steps/resume"] {
        assert_eq!(api.post(path, json!({})).await.0, 204);
    }
    api.project("web").await;
    api.post("/api/v1/projects/web/runs", json!({})).await;
    let (_, jobs) = api.get("/api/v1/fleet/jobs").await;
    let job = format!("/api/v1/fleet/jobs/{}/discard", jobs["items"][0]["id"].as_str().unwrap());
    assert_eq!(api.post(&job, json!({})).await.0, 202);
    assert_eq!(actions(&entries(&api, "").await), ["project.created", "run.started"]);
    let installation = entries(&api, "installation=true").await;
    assert_eq!(actions(&installation), ["queue.paused", "queue.resumed", "job.discarded"]);
    let key = api.key(api.organization, &[Permission::OrgAdmin]).await;
    let other = api.anonymous(Method::GET, "/api/v1/audit?installation=true").bearer_auth(key);
    assert_eq!(answer(other).await.0, 403);
}

#[tokio::test]
async fn it_is_filtered_paged_and_exported() {
    let api = Api::start().await;
    let web = api.project("web").await;
    api.project("app").await;
    api.post("/api/v1/projects/web/runs", json!({})).await;
    assert_eq!(entries(&api, &format!("project={web}")).await.len(), 2);
    assert_eq!(entries(&api, "action=run.").await.len(), 1);
    assert_eq!(entries(&api, &format!("subject={web}")).await.len(), 1);
    assert_eq!(entries(&api, "until=2020-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(entries(&api, "since=2020-01-01T00:00:00Z").await.len(), 3);
    let (_, first) = api.get("/api/v1/audit?limit=2").await;
    let (_, rest) = api.get(&format!("/api/v1/audit?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    let export = api.request(Method::GET, "/api/v1/audit/export?action=project.").send().await.unwrap();
    assert_eq!(export.headers()["content-type"], "text/csv; charset=utf-8");
    let text = export.text().await.unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("at,action,actor,") && lines[2].contains(",project.created,key all,"), "{text}");
}
