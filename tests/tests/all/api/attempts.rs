//! What runners ask while they carry out an attempt.

use buildit_shared::{
    db::attempts::{self, Begin, Beginner},
    ids::{AttemptId, StepId},
};
use buildit_tests::api::{Api, RunningStep, answer};
use reqwest::Method;
use serde_json::{Value, json};

const ONE: &str = "runner-one-0123456789";
const OTHER: &str = "runner-other-0123456789";

async fn begin(api: &Api, attempt: AttemptId, runner: &str) -> (u16, Value) {
    api.post_as_runner(attempt, "", "begin", json!({ "runner": runner })).await
}

async fn at_work(api: &Api) -> RunningStep {
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

/// Another step of the run, whose next attempt is up already.
async fn waiting(api: &Api, at: &RunningStep) -> (StepId, AttemptId) {
    let (step, attempt) = (StepId::new(), AttemptId::new());
    let insert = "
        insert into pipeline_steps (id, organization_id, project_id, run_id, name, step_order, image, plan, unmet)
        select $1, organization_id, project_id, id, 'next', 1, 'busybox', '{}', 1 from pipeline_runs where id = $2";
    sqlx::query(insert).bind(step).bind(at.run).execute(&api.database.pool).await.unwrap();
    let insert =
        "insert into attempts_ahead (attempt_id, step_id, run_id, cpu_millis, memory_bytes) values ($1, $2, $3, 1, 1)";
    sqlx::query(insert).bind(attempt).bind(step).bind(at.run).execute(&api.database.pool).await.unwrap();
    (step, attempt)
}

#[tokio::test]
async fn whoever_asks_before_its_turn_is_answered_when_that_comes() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let (step, attempt) = waiting(&api, &at).await;
    let turn = async {
        let made = format!(
            "with gone as (delete from attempts_ahead)
             insert into step_attempts (id, organization_id, run_id, step_id, number, job_id, ahead)
             select '{attempt}', organization_id, run_id, id, 1, gen_random_uuid(), true from pipeline_steps where id = '{step}'"
        );
        api.change(at.run, &made).await;
        // No worker has taken its job so far: an operator may have paused the queue.
        api.change(at.run, "select 1").await;
        api.change(at.run, "update step_attempts set status = 'running', started_at = now() where status = 'pending'")
            .await;
    };
    let ((status, begun), ()) = tokio::join!(begin(&api, attempt, ONE), turn);
    assert_eq!(status, 200, "{begun}");
    assert_eq!(begin(&api, attempt, OTHER).await.0, 409);
}

#[tokio::test]
async fn whoever_waits_for_a_turn_that_will_not_come_is_told_to_go() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let (_, unwanted) = waiting(&api, &at).await;
    let (answer, ()) = tokio::join!(begin(&api, unwanted, ONE), api.change(at.run, "delete from attempts_ahead"));
    assert_eq!(answer.0, 404, "others wanted its room");
    let again = api.running_step("web").await;
    let (_, cancelled) = waiting(&api, &again).await;
    let cancel = async { api.post(&format!("/api/v1/runs/{}/cancel", again.run), json!({})).await };
    let (answer, (accepted, _)) = tokio::join!(begin(&api, cancelled, ONE), cancel);
    assert_eq!((answer.0, accepted), (410, 202));
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
