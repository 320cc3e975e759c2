//! What every answer has in common.

use buildit_tests::api::{Api, answer};
use reqwest::{Method, header};
use serde_json::Value;

fn code(body: &Value) -> &str {
    assert!(body["error"]["message"].is_string(), "{body}");
    body["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn it_lives_and_is_ready_without_a_key() {
    let api = Api::start().await;
    for path in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
        assert_eq!(answer(api.anonymous(Method::GET, path)).await.0, 200, "{path}");
    }
    sqlx::query("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(&api.database.pool)
        .await
        .unwrap();
    let (status, body) = answer(api.anonymous(Method::GET, "/readyz")).await;
    assert_eq!((status, code(&body)), (503, "migrations_pending"));
}

#[tokio::test]
async fn every_error_has_the_same_shape() {
    let api = Api::start().await;
    let (status, body) = api.get("/nothing/here").await;
    assert_eq!((status, code(&body)), (404, "not_found"));
    let (status, body) = answer(api.request(Method::PUT, "/api/v1/projects")).await;
    assert_eq!((status, code(&body)), (405, "method_not_allowed"));
    let (status, body) = answer(api.anonymous(Method::GET, "/api/v1/projects")).await;
    assert_eq!((status, code(&body)), (401, "unauthenticated"));
    let json = |body: &'static str| {
        api.request(Method::POST, "/api/v1/projects").header(header::CONTENT_TYPE, "application/json").body(body)
    };
    let (status, body) = answer(json("{")).await;
    assert_eq!((status, code(&body)), (400, "invalid_json"));
    let (status, body) = answer(json("{\"name\": 1}")).await;
    assert_eq!((status, code(&body)), (422, "invalid_request"));
    let (status, body) = answer(json("{\"name\": \"a\", \"repository\": \"https://a.example/b\", \"more\": 1}")).await;
    assert_eq!((status, code(&body)), (422, "invalid_request"));
    let (status, body) = answer(api.request(Method::POST, "/api/v1/projects").body("name=a")).await;
    assert_eq!((status, code(&body)), (415, "unsupported_media_type"));
    let long = api.request(Method::POST, "/api/v1/projects").header(header::CONTENT_TYPE, "application/json");
    let (status, body) = answer(long.body(format!("\"{}\"", "x".repeat(3 << 20)))).await;
    assert_eq!((status, code(&body)), (413, "too_large"));
    for (path, expected) in [
        ("/api/v1/projects?limit=0", (422, "invalid_request")),
        ("/api/v1/projects?limit=x", (400, "invalid_query")),
        ("/api/v1/runs?cursor=x", (400, "invalid_cursor")),
        ("/api/v1/runs?status=done", (422, "invalid_request")),
        ("/api/v1/runs/no-id", (404, "not_found")),
        ("/api/v1/projects/a%00b", (422, "invalid_request")),
        ("/api/v1/projects/%ff", (404, "not_found")),
    ] {
        let (status, body) = api.get(path).await;
        assert_eq!((status, code(&body)), expected, "{path}");
    }
}

#[tokio::test]
async fn an_answer_without_a_key_says_which_kind_it_needs() {
    let api = Api::start().await;
    let response = api.anonymous(Method::GET, "/api/v1/projects").send().await.unwrap();
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"buildit\"");
    for wrong in ["Bearer bi_wrong", "Bearer ", "Basic YTpi", "bi_wrong", "Bearer"] {
        let request = api.anonymous(Method::GET, "/api/v1/projects").header(header::AUTHORIZATION, wrong);
        assert_eq!(answer(request).await.0, 401, "{wrong:?}");
    }
}

#[tokio::test]
async fn each_request_has_an_id_and_a_sensible_one_is_kept() {
    let api = Api::start().await;
    let id = async |sent: Option<&str>| {
        let mut request = api.anonymous(Method::GET, "/healthz");
        if let Some(sent) = sent {
            request = request.header("x-request-id", sent);
        }
        request.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_ne!(id(None).await, id(None).await);
    assert_eq!(id(Some("mine-1")).await, "mine-1");
    let long = "x".repeat(101);
    assert_ne!(id(Some(&long)).await, long);
}

#[tokio::test]
async fn the_database_away_is_a_pause_for_callers() {
    let api = Api::start().await;
    api.database.pool.close().await;
    let (status, body) = api.get("/api/v1/projects").await;
    assert_eq!((status, code(&body)), (503, "database_unavailable"));
    assert_eq!(answer(api.anonymous(Method::GET, "/readyz")).await.0, 503);
    assert_eq!(answer(api.anonymous(Method::GET, "/healthz")).await.0, 200);
}

#[tokio::test]
async fn the_figures_name_queues_and_kinds() {
    let api = Api::start().await;
    api.project("web").await;
    assert_eq!(api.post("/api/v1/projects/web/runs", serde_json::json!({})).await.0, 201);
    let text = api.anonymous(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(
        text.contains("buildit_queue_jobs{queue=\"pipelines\",kind=\"RunPipeline\",state=\"ready\"} 1\n"),
        "{text}"
    );
    assert!(text.contains("buildit_workers{state=\"alive\"} 0\n"), "{text}");
}
