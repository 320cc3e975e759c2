//! API keys.

use buildit_shared::permission::Permission;
use buildit_tests::api::{Api, answer};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_key_is_shown_once_and_serves_until_it_is_revoked() {
    let api = Api::start().await;
    let (status, made) = api.post("/api/v1/api-keys", json!({ "name": "ci", "permissions": ["project:read"] })).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("bi_") && token.len() == 46, "{token}");
    assert!(token.starts_with(made["prefix"].as_str().unwrap()));
    let read = async || answer(api.anonymous(Method::GET, "/api/v1/projects").bearer_auth(token)).await.0;
    assert_eq!(read().await, 200);
    let (_, keys) = api.get("/api/v1/api-keys").await;
    assert!(!keys.to_string().contains(token));
    let listed = &keys["items"][0];
    assert_eq!((&listed["id"], &listed["name"]), (&made["id"], &json!("ci")));
    assert!(listed["last_used_at"].is_string());
    let path = format!("/api/v1/api-keys/{}", made["id"].as_str().unwrap());
    assert_eq!(answer(api.request(Method::DELETE, &path)).await.0, 204);
    assert_eq!(read().await, 401);
    let stored: (i64,) = sqlx::query_as("select count(*) from api_keys where api_keys::text like '%' || $1 || '%'")
        .bind(token)
        .fetch_one(&api.database.pool)
        .await
        .unwrap();
    assert_eq!(stored.0, 0);
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let api = Api::start().await;
    let body = json!({ "name": "ci", "permissions": ["project:read"], "expires_at": "2020-01-01T00:00:00Z" });
    let (_, made) = api.post("/api/v1/api-keys", body).await;
    let request = api.anonymous(Method::GET, "/api/v1/projects").bearer_auth(made["token"].as_str().unwrap());
    assert_eq!(answer(request).await.0, 401);
}

#[tokio::test]
async fn nobody_gives_away_more_than_they_have() {
    let api = Api::start().await;
    let key = api.key(api.organization, &[Permission::OrgAdmin, Permission::ProjectRead]).await;
    for (permission, expected) in [("project:read", 201), ("project:write", 403), ("fleet:admin", 403), ("all", 422)] {
        let request = api.anonymous(Method::POST, "/api/v1/api-keys").bearer_auth(&key);
        let body = json!({ "name": "more", "permissions": [permission] });
        assert_eq!(answer(request.json(&body)).await.0, expected, "{permission}");
    }
}

#[tokio::test]
async fn a_hooks_key_can_trigger_its_project_and_nothing_else() {
    let api = Api::start().await;
    let web = api.project("web").await;
    api.project("other").await;
    let body = json!({ "name": "hook", "permissions": ["run:trigger"], "project": "web" });
    let (_, made) = api.post("/api/v1/api-keys", body).await;
    assert_eq!(made["project_id"], web);
    let token = made["token"].as_str().unwrap();
    let post = async |path: &str| answer(api.anonymous(Method::POST, path).bearer_auth(token).json(&json!({}))).await.0;
    assert_eq!(post("/api/v1/projects/web/runs").await, 201);
    assert_eq!(post("/api/v1/projects/other/runs").await, 404);
    assert_eq!(answer(api.anonymous(Method::GET, "/api/v1/projects/web").bearer_auth(token)).await.0, 403);
}

#[tokio::test]
async fn the_time_of_use_is_written_at_most_once_a_minute() {
    let api = Api::start().await;
    let writes = async || {
        let row: (String,) =
            sqlx::query_as("select xmin::text from api_keys").fetch_one(&api.database.pool).await.unwrap();
        row.0
    };
    api.get("/api/v1/projects").await;
    let first = writes().await;
    api.get("/api/v1/projects").await;
    assert_eq!(writes().await, first);
    sqlx::query("update api_keys set last_used_at = now() - interval '61 seconds'")
        .execute(&api.database.pool)
        .await
        .unwrap();
    let aged = writes().await;
    api.get("/api/v1/projects").await;
    assert_ne!(writes().await, aged);
}
