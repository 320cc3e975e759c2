//! Projects and pipelines.

use buildit_tests::api::{Api, answer};
use reqwest::Method;
use serde_json::{Value, json};

async fn create(api: &Api, name: &str, repository: &str) -> (u16, Value) {
    api.post("/api/v1/projects", json!({ "name": name, "repository": repository })).await
}

#[tokio::test]
async fn a_project_is_made_read_changed_and_deleted_by_id_or_name() {
    let api = Api::start().await;
    let id = api.project("web").await;
    for name in ["web", &id] {
        assert_eq!(api.get(&format!("/api/v1/projects/{name}")).await.1["name"], "web");
    }
    let change = api.request(Method::PATCH, "/api/v1/projects/web").json(&json!({ "name": "site" }));
    let (status, changed) = answer(change).await;
    assert_eq!((status, &changed["name"], &changed["default_branch"]), (200, &json!("site"), &json!("main")));
    assert_eq!(api.get("/api/v1/projects/web").await.0, 404);
    assert_eq!(answer(api.request(Method::DELETE, "/api/v1/projects/site")).await.0, 204);
    assert_eq!(api.get("/api/v1/projects/site").await.0, 404);
}

#[tokio::test]
async fn names_are_unique_and_never_look_like_ids() {
    let api = Api::start().await;
    api.project("web").await;
    let (status, body) = create(&api, "web", "https://git.example/web").await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("name_taken")));
    let long = "x".repeat(64);
    for name in ["", "Web", "-web", "web-", "web_site", "ä", "a/b", "0190b7a0-0000-7000-8000-000000000000", &long] {
        let (status, body) = create(&api, name, "https://git.example/web").await;
        assert_eq!((status, &body["error"]["details"]["field"]), (422, &json!("name")), "{name}");
    }
}

#[tokio::test]
async fn a_repository_is_a_path_below_an_allowed_folder_or_an_address_without_credentials() {
    let api = Api::start().await;
    let inside = api.repositories.join("web.git");
    assert_eq!(create(&api, "inside", inside.to_str().unwrap()).await.0, 201);
    for repository in [
        "/etc",
        "/",
        "web.git",
        "file:///srv/web",
        "http://a.example/b",
        "https://u:p@a.example/b",
        "-u",
        "ext::sh -c id",
    ] {
        let (status, body) = create(&api, "web", repository).await;
        assert_eq!((status, &body["error"]["details"]["field"]), (422, &json!("repository")), "{repository}");
        let change = api.request(Method::PATCH, "/api/v1/projects/inside").json(&json!({ "repository": repository }));
        assert_eq!(answer(change).await.0, 422, "{repository}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_that_lose_and_repeat_nothing() {
    let api = Api::start().await;
    for name in ["e", "a", "d", "b", "c"] {
        api.project(name).await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/projects?limit=2".to_owned();
    loop {
        let (_, page) = api.get(&path).await;
        let names: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect();
        assert!(names.len() <= 2);
        // What goes between two pages shifts nothing.
        if let Some(first) = names.first() {
            assert_eq!(answer(api.request(Method::DELETE, &format!("/api/v1/projects/{first}"))).await.0, 204);
        }
        seen.extend(names);
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/projects?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_project_begins_with_the_pipeline_of_its_file_and_takes_others() {
    let api = Api::start().await;
    api.project("web").await;
    let (_, pipelines) = api.get("/api/v1/projects/web/pipelines").await;
    assert_eq!(pipelines["items"].as_array().unwrap().len(), 1);
    let first = &pipelines["items"][0];
    assert_eq!((&first["name"], &first["file"]), (&json!("default"), &json!(".platform.yaml")));
    let config = "pipeline:\n  steps:\n    - name: test\n      image: busybox\n      commands: [\"true\"]\n";
    let (status, stored) =
        api.post("/api/v1/projects/web/pipelines", json!({ "name": "nightly", "config": config })).await;
    assert_eq!((status, &stored["config"], &stored["file"]), (201, &json!(config), &json!(null)));
    let path = format!("/api/v1/pipelines/{}", stored["id"].as_str().unwrap());
    let (status, changed) = answer(api.request(Method::PATCH, &path).json(&json!({ "file": "ci/nightly.yaml" }))).await;
    assert_eq!((status, &changed["config"], &changed["file"]), (200, &json!(null), &json!("ci/nightly.yaml")));
    assert_eq!(answer(api.request(Method::DELETE, &path)).await.0, 204);
    assert_eq!(api.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_pipeline_is_either_a_file_of_the_repository_or_a_config_that_parses() {
    let api = Api::start().await;
    api.project("web").await;
    let broken = "pipeline:\n  steps:\n    - name: test\n      imagge: busybox\n";
    for body in [
        json!({ "name": "a" }),
        json!({ "name": "a", "file": "a", "config": "b" }),
        json!({ "name": "a", "file": "../a" }),
        json!({ "name": "a", "file": "/etc/passwd" }),
        json!({ "name": "a", "file": "-a" }),
        json!({ "name": "a", "file": "" }),
        json!({ "name": "", "file": "a" }),
        json!({ "name": "a", "config": broken }),
    ] {
        assert_eq!(api.post("/api/v1/projects/web/pipelines", body.clone()).await.0, 422, "{body}");
    }
    let (status, verdict) = api.post("/api/v1/pipelines/validate", json!({ "config": broken })).await;
    assert_eq!((status, &verdict["valid"]), (200, &json!(false)));
    let unknown = verdict["diagnostics"].as_array().unwrap().iter().find(|one| one["rule"] == "unknown-key").unwrap();
    assert_eq!((&unknown["line"], &unknown["column"]), (&json!(4), &json!(7)));
}

#[tokio::test]
async fn what_still_runs_is_not_deleted() {
    let api = Api::start().await;
    api.project("web").await;
    assert_eq!(api.post("/api/v1/projects/web/runs", json!({})).await.0, 201);
    let (status, body) = answer(api.request(Method::DELETE, "/api/v1/projects/web")).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("runs_active")));
}
