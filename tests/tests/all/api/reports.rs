//! The last word of a runner, told to the API.

use buildit_shared::{db::reports, ids::AttemptId};
use buildit_tests::api::Api;
use serde_json::{Value, json};

const ONE: &str = "runner-one-0123456789";

async fn report(api: &Api, attempt: AttemptId, runner: &str, report: Value) -> u16 {
    api.post_as_runner(attempt, runner, "report", report).await.0
}

#[tokio::test]
async fn the_first_report_of_the_runner_that_began_counts() {
    let api = Api::start().await;
    api.project("web").await;
    let attempt = api.running_step("web").await.attempt;
    let first = json!({ "attempt_id": attempt, "word": 1 });
    assert_eq!(report(&api, attempt, ONE, first.clone()).await, 409, "nobody has begun it");

    assert_eq!(api.post_as_runner(attempt, ONE, "begin", json!({ "runner": ONE })).await.0, 200);
    assert_eq!(report(&api, attempt, "runner-other-0123456789", first.clone()).await, 409);
    assert_eq!(report(&api, attempt, ONE, json!({ "attempt_id": AttemptId::new() })).await, 422);
    for word in [1, 1, 2] {
        assert_eq!(report(&api, attempt, ONE, json!({ "attempt_id": attempt, "word": word })).await, 204);
    }
    let known = reports::of_attempt(&api.database.pool, attempt).await.unwrap();
    assert_eq!((known.begun, known.report), (true, Some(first)));

    api.end_attempt(attempt, "success").await;
    assert_eq!(report(&api, attempt, ONE, json!({ "attempt_id": attempt })).await, 409, "it is over");
}
