//! What runners ask while they carry out an attempt.

use buildit_shared::{
    db::attempts::{self, Begin, Beginner},
    ids::AttemptId,
};
use buildit_tests::api::{Api, answer};
use reqwest::Method;
use serde_json::{Value, json};

const ONE: &str = "runner-one-0123456789";
const OTHER: &str = "runner-other-0123456789";

async fn begin(api: &Api, attempt: AttemptId, runner: &str) -> (u16, Value) {
    api.post_as_runner(attempt, "", "begin", json!({ "runner": runner })).await
}

async fn at_work(api: &Api) -> buildit_tests::api::RunningStep {
    api.project("web").await;
    api.running_step("web").await
}

#[tokio::test]
async fn an_attempt_is_begun_by_one_runner_for_ever() {
    let api = Api::start().await;
    let attempt = at_work(&api).await.attempt;
    assert_eq!(begin(&api, attempt, ONE).await, (200, json!({ "checkout": null, "inputs": [] })));
    assert_eq!(begin(&api, attempt, ONE).await.0, 200, "its answer may have been lost");
    let (status, error) = begin(&api, attempt, OTHER).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("begun_by_another")));
    // Nor does a stop take from the winner what it has.
    let stopped = attempts::begin(&api.database.pool, attempt, Beginner::Stopped).await.unwrap();
    assert_eq!(stopped, Begin::Taken);
    assert_eq!(begin(&api, attempt, ONE).await.0, 200);
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_wins() {
    let api = Api::start().await;
    let attempt = at_work(&api).await.attempt;
    let runners: Vec<String> = (0..20).map(|number| format!("runner-{number:016}")).collect();
    let asked = runners.iter().map(|runner| begin(&api, attempt, runner));
    let answers: Vec<u16> = futures::future::join_all(asked).await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 409)), "{answers:?}");
}

#[tokio::test]
async fn an_attempt_that_was_stopped_before_it_began_never_begins() {
    let api = Api::start().await;
    let attempt = at_work(&api).await.attempt;
    for _ in 0..2 {
        let stopped = attempts::begin(&api.database.pool, attempt, Beginner::Stopped).await.unwrap();
        assert_eq!(stopped, Begin::Won);
    }
    assert_eq!(begin(&api, attempt, ONE).await.0, 409);
}

#[tokio::test]
async fn there_is_nothing_to_begin_in_what_is_over() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    assert_eq!(api.post(&format!("/api/v1/runs/{}/cancel", at.run), json!({})).await.0, 202);
    let (status, error) = begin(&api, at.attempt, ONE).await;
    assert_eq!((status, &error["error"]["code"]), (410, &json!("attempt_over")));
    let stopped = attempts::begin(&api.database.pool, at.attempt, Beginner::Stopped).await.unwrap();
    assert_eq!(stopped, Begin::Won, "whoever cancels takes the marker");

    let ended = api.running_step("web").await.attempt;
    assert_eq!(begin(&api, ended, ONE).await.0, 200);
    api.end_attempt(ended, "success").await;
    assert_eq!(begin(&api, ended, ONE).await.0, 410);
}

#[tokio::test]
async fn whoever_begins_is_told_where_checkout_and_inputs_are() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    api.storage.put("checkouts/1.tar.zst", &b"the commit"[..]).await.unwrap();
    let statement = "update pipeline_runs set checkout_key = 'checkouts/1.tar.zst' where id = $1";
    sqlx::query(statement).bind(at.run).execute(&api.database.pool).await.unwrap();
    let (status, begun) = begin(&api, at.attempt, ONE).await;
    assert_eq!(status, 200, "{begun}");
    let checkout = api.anonymous(Method::GET, begun["checkout"]["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(checkout.text().await.unwrap(), "the commit");
}

#[tokio::test]
async fn a_token_is_for_its_attempt_alone() {
    let api = Api::start().await;
    let attempt = at_work(&api).await.attempt;
    let other = api.running_step("web").await.attempt;
    let path = format!("/api/v1/attempts/{attempt}/begin");
    let token = buildit_shared::attempt_token::AttemptTokens::new(b"a secret").token(other);
    let body = json!({ "runner": ONE });
    for wrong in [token.as_str(), "bia_", &api.key] {
        let (status, _) = answer(api.anonymous(Method::POST, &path).bearer_auth(wrong).json(&body)).await;
        assert_eq!(status, 401, "{wrong}");
    }
    let gone = AttemptId::new();
    assert_eq!(begin(&api, gone, ONE).await.0, 404);
    for nonce in ["", "short", "stopped", "with a space in it", &"x".repeat(65)] {
        assert_eq!(begin(&api, attempt, nonce).await.0, 422, "{nonce:?}");
    }
}
