//! Secrets: set, listed by name, deleted, and never shown.

use buildit_shared::db::secrets;
use buildit_tests::api::{Api, answer};
use reqwest::Method;
use serde_json::json;

const VALUE: &str = "hunter2-correct-horse";

#[tokio::test]
async fn a_value_goes_in_and_never_out() {
    let api = Api::start().await;
    api.project("web").await;
    for list in
        ["/api/v1/secrets", "/api/v1/projects/web/secrets", "/api/v1/projects/web/environments/production/secrets"]
    {
        let path = format!("{list}/TOKEN");
        for _ in 0..2 {
            let (status, said) = answer(api.request(Method::PUT, &path).json(&json!({ "value": VALUE }))).await;
            assert_eq!(status, 204, "{said}");
        }
        assert_eq!(answer(api.request(Method::GET, &path)).await.0, 405);
        let (_, page) = api.get(list).await;
        assert_eq!((&page["items"][0]["name"], &page["items"][0]["set_by"]), (&json!("TOKEN"), &json!("key all")));
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "each has its own: {page}");
        let (_, log) = api.get("/api/v1/audit?action=secret.").await;
        assert!(!page.to_string().contains(VALUE) && !log.to_string().contains(VALUE));
        assert_eq!(log["items"][0]["action"], "secret.updated");
        assert_eq!(answer(api.request(Method::DELETE, &path)).await.0, 204);
        assert_eq!(answer(api.request(Method::DELETE, &path)).await.0, 404);
    }
}

#[tokio::test]
async fn names_and_values_that_no_step_could_have_are_refused() {
    let api = Api::start().await;
    let put = async |name: &str, value: &str| {
        answer(api.request(Method::PUT, &format!("/api/v1/secrets/{name}")).json(&json!({ "value": value }))).await.0
    };
    for name in ["1A", "A-B", "A.B", "%20", "\u{e4}", &"A".repeat(101)] {
        assert_eq!(put(name, VALUE).await, 422, "{name:?}");
    }
    for value in ["", "abc", "a\0bcdef", &"x".repeat((48 << 10) + 1)] {
        assert_eq!(put("A", value).await, 422, "{} bytes", value.len());
    }
    assert_eq!(put("_a1", "abcd").await, 204);
    api.project("web").await;
    for environment in ["-a", ".a", "a%20b", "a%2Fb", "\u{e4}", &"a".repeat(64)] {
        let path = format!("/api/v1/projects/web/environments/{environment}/secrets/A");
        let (status, said) = answer(api.request(Method::PUT, &path).json(&json!({ "value": VALUE }))).await;
        assert_eq!(status, 422, "{environment:?}: {said}");
    }
}

#[tokio::test]
async fn a_projects_list_has_its_own_and_then_those_of_its_environments() {
    let api = Api::start().await;
    api.project("web").await;
    let of = |environment: &str| format!("/api/v1/projects/web/environments/{environment}/secrets");
    for list in [of("staging"), of("production"), "/api/v1/projects/web/secrets".into()] {
        for name in ["B", "A"] {
            let set = api.request(Method::PUT, &format!("{list}/{name}")).json(&json!({ "value": VALUE }));
            assert_eq!(answer(set).await.0, 204);
        }
    }
    let mut found = Vec::new();
    let mut path = "/api/v1/projects/web/secrets?limit=1".to_owned();
    loop {
        let (status, page) = api.get(&path).await;
        assert_eq!(status, 200, "{page}");
        let item = &page["items"][0];
        found.push((item["environment"].as_str().map(str::to_owned), item["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/projects/web/secrets?limit=1&cursor={cursor}");
    }
    let expected = [None, Some("production"), Some("staging")]
        .into_iter()
        .flat_map(|environment| ["A", "B"].map(|name| (environment.map(str::to_owned), name.to_owned())));
    assert_eq!(found, expected.collect::<Vec<_>>());
    let (_, page) = api.get(&of("staging")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2, "{page}");
    let (_, log) = api.get("/api/v1/audit?action=secret.&limit=1").await;
    assert_eq!(log["items"][0]["after"], json!(null), "the project's own: {log}");
    assert_eq!(answer(api.request(Method::DELETE, &format!("{}/A", of("staging")))).await.0, 204);
    let (_, log) = api.get("/api/v1/audit?action=secret.&limit=1").await;
    assert_eq!(log["items"][0]["before"], json!({ "environment": "staging" }), "{log}");
    let (_, page) = api.get("/api/v1/projects/web/secrets").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 5, "the others stay: {page}");
}

#[tokio::test]
async fn what_is_stored_cannot_be_moved_to_another_place() {
    let api = Api::start().await;
    for name in ["ONE", "TWO"] {
        let path = format!("/api/v1/secrets/{name}");
        answer(api.request(Method::PUT, &path).json(&json!({ "value": format!("{VALUE}-{name}") }))).await;
    }
    let project = api.project("web").await.parse().unwrap();
    for environment in ["staging", "production"] {
        let path = format!("/api/v1/projects/web/environments/{environment}/secrets/THREE");
        answer(api.request(Method::PUT, &path).json(&json!({ "value": format!("{VALUE}-{environment}") }))).await;
    }
    let moved = "update secrets set sealed = (select sealed from secrets where environment = 'staging')
                 where environment = 'production'";
    sqlx::query(moved).execute(&api.database.pool).await.unwrap();
    sqlx::query("update secrets set sealed = (select sealed from secrets where name = 'ONE') where name = 'TWO'")
        .execute(&api.database.pool)
        .await
        .unwrap();
    let vault = buildit_shared::vault::Vault::new(buildit_tests::api::SECRETS_KEY, []).unwrap();
    let value = async |environment: Option<&str>, name: &str| {
        secrets::values(&api.database.pool, &vault, project, environment, &[name.to_owned()]).await
    };
    assert_eq!(value(None, "ONE").await.unwrap()["ONE"], format!("{VALUE}-ONE"));
    assert!(value(None, "TWO").await.is_err());
    assert_eq!(value(Some("staging"), "THREE").await.unwrap()["THREE"], format!("{VALUE}-staging"));
    assert!(value(Some("production"), "THREE").await.is_err());
    assert!(value(None, "THREE").await.unwrap().is_empty());
}
