//! Secrets: set, listed by name, deleted, and never shown.

use buildit_tests::api::{Api, answer};
use reqwest::Method;
use serde_json::json;

const VALUE: &str = "hunter2-correct-horse";

#[tokio::test]
async fn a_value_goes_in_and_never_out() {
    let api = Api::start().await;
    api.project("web").await;
    for list in ["/api/v1/secrets", "/api/v1/projects/web/secrets"] {
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
}

#[tokio::test]
async fn what_is_stored_cannot_be_moved_to_another_place() {
    let api = Api::start().await;
    for name in ["ONE", "TWO"] {
        let path = format!("/api/v1/secrets/{name}");
        answer(api.request(Method::PUT, &path).json(&json!({ "value": format!("{VALUE}-{name}") }))).await;
    }
    let project = api.project("web").await.parse().unwrap();
    sqlx::query("update secrets set sealed = (select sealed from secrets where name = 'ONE') where name = 'TWO'")
        .execute(&api.database.pool)
        .await
        .unwrap();
    let vault = buildit_shared::vault::Vault::new(buildit_tests::api::SECRETS_KEY, []).unwrap();
    let value = async |name: &str| {
        buildit_shared::db::secrets::values(&api.database.pool, &vault, project, &[name.to_owned()]).await
    };
    assert_eq!(value("ONE").await.unwrap()["ONE"], format!("{VALUE}-ONE"));
    assert!(value("TWO").await.is_err());
}
