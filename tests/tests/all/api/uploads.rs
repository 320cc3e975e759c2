//! What runners store by themselves, where the store is files; the same with a real S3 is among the cluster's tests.

use base64::{Engine, engine::general_purpose::STANDARD};
use buildit_shared::storage::Checksum;
use buildit_tests::{
    api::{Api, RunningStep, UPLOAD_LIMIT},
    uploads::Runner,
};
use buildit_worker::sweep_uploads;
use serde_json::{Value, json};

async fn at_work(api: &Api) -> RunningStep {
    api.project("web").await;
    api.running_step("web").await
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn log_outputs_and_artifacts_get_to_where_workers_look_for_them() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let runner = Runner::begun(&api, at).await;
    let large: Vec<u8> = (0..(8 << 20) + 3).map(|n: u32| (n % 251) as u8).collect();
    runner.store("log", b"hello\n").await;
    runner.store("outputs", &large).await;
    runner.store("artifacts/results", b"").await;
    let get = async |key: String| api.storage.get(&key).await.unwrap();
    assert_eq!(get(format!("logs/pipelines/{}/test.1.log", at.run)).await, "hello\n");
    assert!(get(format!("staged/{}/{}/outputs.tar.zst", at.run, at.attempt)).await == large);
    assert_eq!(get(format!("staged/{}/{}/artifacts/results.tar.zst", at.run, at.attempt)).await, "");
}

#[tokio::test]
async fn each_call_can_be_repeated_and_what_is_stored_stays() {
    let api = Api::start().await;
    let runner = Runner::begun(&api, at_work(&api).await).await;
    let (_, first) = runner.promise("outputs", b"abc").await;
    assert_eq!(runner.promise("outputs", b"abc").await, (200, first.clone()), "the same upload");
    let upload = &first["upload"];
    let (_, etag) = runner.send("outputs", upload, 1, b"abc").await;
    assert_eq!(runner.send("outputs", upload, 1, b"abc").await, (200, etag.clone()));
    let etags = [etag];
    for _ in 0..2 {
        assert_eq!(runner.complete("outputs", upload, &etags, b"abc").await.0, 200);
    }
    let (status, again) = runner.promise("outputs", b"abc").await;
    assert_eq!((status, &again["exists"], &again["upload"]), (200, &json!(true), &Value::Null));
    let (status, other) = runner.promise("outputs", b"xyz").await;
    assert_eq!((status, code(&other)), (409, "immutable"));
    let late = json!({ "upload": upload, "part": 1, "size": 3 });
    let (status, error) = runner.post("objects/outputs/parts", late).await;
    assert_eq!((status, code(&error)), (409, "no_upload"));
}

#[tokio::test]
async fn an_answer_that_was_lost_after_the_object_was_made_costs_nothing() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let runner = Runner::begun(&api, at).await;
    runner.store("log", b"hello\n").await;
    // As if the API had died between the store's word and the row.
    let forget = "update attempt_uploads set completed_at = null where attempt_id = $1";
    sqlx::query(forget).bind(at.attempt).execute(&api.database.pool).await.unwrap();
    let (status, again) = runner.promise("log", b"hello\n").await;
    assert_eq!((status, &again["exists"]), (200, &json!(true)));
}

#[tokio::test]
async fn an_upload_that_the_store_forgot_begins_anew() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let runner = Runner::begun(&api, at).await;
    let (_, first) = runner.promise("outputs", b"abc").await;
    let key = format!("staged/{}/{}/outputs.tar.zst", at.run, at.attempt);
    api.storage.abort_upload(&key, first["upload"].as_str().unwrap()).await.unwrap();
    assert_eq!(runner.send("outputs", &first["upload"], 1, b"abc").await.0, 404);
    runner.store("outputs", b"abc").await;
    assert_eq!(api.storage.get(&key).await.unwrap(), "abc");
}

#[tokio::test]
async fn other_bytes_take_the_place_of_what_was_never_completed() {
    let api = Api::start().await;
    let runner = Runner::begun(&api, at_work(&api).await).await;
    let (_, first) = runner.promise("outputs", b"abc").await;
    runner.store("outputs", b"other").await;
    let (status, error) = runner.complete("outputs", &first["upload"], &["x".into()], b"abc").await;
    assert_eq!((status, code(&error)), (409, "no_upload"));
}

#[tokio::test]
async fn no_more_is_stored_than_the_limits_allow() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let runner = Runner::begun(&api, at).await;
    let promise = async |name: &str, size: u64| {
        let body = json!({ "size": size, "sha256": "0".repeat(64) });
        let (status, answer) = runner.post(&format!("objects/{name}"), body).await;
        (status, code(&answer).to_owned())
    };
    let too_large = (413, "too_large".to_owned());
    assert_eq!(promise("log", (1 << 20) + (65 << 10)).await, too_large, "the log has a limit of its own");
    assert_eq!(promise("outputs", UPLOAD_LIMIT + 1).await, too_large);
    assert_eq!(promise("outputs", UPLOAD_LIMIT - 10).await.0, 200);
    assert_eq!(promise("artifacts/results", 11).await, too_large, "the sum counts");
    assert_eq!(promise("artifacts/results", 10).await.0, 200);
    assert_eq!(promise("outputs", u64::MAX).await, too_large);

    let (_, body) = runner.promise("artifacts/results", b"abc").await;
    let part = async |part: u64, size: u64| {
        let body = json!({ "upload": body["upload"], "part": part, "size": size });
        runner.post("objects/artifacts/results/parts", body).await.0
    };
    assert_eq!(part(1, 3).await, 200);
    for (number, size) in [(1, 4), (1, 2), (0, 3), (2, 3), (10_001, 3)] {
        assert_eq!(part(number, size).await, 422, "part {number} of {size} bytes");
    }
}

#[tokio::test]
async fn a_part_of_another_length_and_other_bytes_are_refused() {
    let api = Api::start().await;
    let runner = Runner::begun(&api, at_work(&api).await).await;
    let (_, promise) = runner.promise("outputs", b"abc").await;
    let body = json!({ "upload": promise["upload"], "part": 1, "size": 3 });
    let (_, address) = runner.post("objects/outputs/parts", body).await;
    let url = address["url"].as_str().unwrap();
    let put = async |url: &str, body: &'static str| {
        let answer = api.anonymous(reqwest::Method::PUT, url).body(body).send().await.unwrap();
        (answer.status().as_u16(), code(&answer.json().await.unwrap_or(Value::Null)).to_owned())
    };
    assert_eq!(put(url, "abcd").await, (400, "wrong_length".into()));
    assert_eq!(put(url, "ab").await, (400, "wrong_length".into()));
    assert_eq!(put(&url.replace("size=3", "size=4"), "abcd").await, (403, "link_invalid".into()));
    assert_eq!(put(&url.replace("outputs", "others"), "abc").await, (403, "link_invalid".into()));
    assert_eq!(put(url, "xyz").await.0, 200);
    let (status, error) = runner.complete("outputs", &promise["upload"], &["x".into()], b"abc").await;
    assert_eq!((status, code(&error)), (422, "incomplete"));
    runner.store("outputs", b"abc").await;
}

#[tokio::test]
async fn only_the_runner_that_began_stores_and_only_what_the_pipeline_has() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let mut runner = Runner::begun(&api, at).await;
    for name in ["artifacts/other", "artifacts", "anything", "artifacts%2F..%2Fx", "artifacts/results%2Fx"] {
        assert_eq!(runner.promise(name, b"abc").await.0, 404, "{name}");
    }
    let word = std::mem::replace(&mut runner.word, "another-runner-0123".into());
    let (status, error) = runner.promise("log", b"abc").await;
    assert_eq!((status, code(&error)), (409, "begun_by_another"));
    runner.word = word;
    // A step that is being stopped still stores its log.
    assert_eq!(api.post(&format!("/api/v1/runs/{}/cancel", at.run), json!({})).await.0, 202);
    runner.store("log", b"stopped\n").await;
    api.end_attempt(at.attempt, "cancelled").await;
    let (status, error) = runner.promise("outputs", b"abc").await;
    assert_eq!((status, code(&error)), (410, "attempt_over"));
}

#[tokio::test]
async fn a_short_log_is_stored_with_its_promise_and_nothing_else_is() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let runner = Runner::begun(&api, at).await;
    let promise = |bytes: &[u8], of: &[u8]| {
        let sha256 = Checksum::of(of).to_string();
        json!({ "size": of.len(), "sha256": sha256, "bytes": STANDARD.encode(bytes) })
    };
    let send = async |name: &str, body: Value| runner.post(&format!("objects/{name}"), body).await;
    assert_eq!(send("log", promise(b"other\n", b"short\n")).await.0, 422);
    assert_eq!(send("outputs", promise(b"short\n", b"short\n")).await.0, 422);
    let long = vec![b'x'; (64 << 10) + 1];
    assert_eq!(send("log", promise(&long, &long)).await.0, 422);
    assert_eq!(send("log", json!({ "size": 0, "sha256": Checksum::of(b"").to_string(), "bytes": "?" })).await.0, 422);
    for _ in 0..2 {
        let (status, stored) = send("log", promise(b"short\n", b"short\n")).await;
        assert_eq!((status, &stored["exists"]), (200, &json!(true)), "{stored}");
    }
    let (status, error) = send("log", promise(b"other\n", b"other\n")).await;
    assert_eq!((status, code(&error)), (409, "immutable"));
    assert_eq!(api.storage.get(&format!("logs/pipelines/{}/test.1.log", at.run)).await.unwrap(), "short\n");
}

#[tokio::test]
async fn who_has_not_begun_stores_nothing() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let body = json!({ "size": 0, "sha256": "0".repeat(64) });
    for word in ["", "runner-0123456789"] {
        assert_eq!(api.post_as_runner(at.attempt, word, "objects/log", body.clone()).await.0, 409, "{word:?}");
    }
}

#[tokio::test]
async fn what_an_ended_attempt_did_not_complete_is_given_up() {
    let api = Api::start().await;
    let at = at_work(&api).await;
    let runner = Runner::begun(&api, at).await;
    runner.store("log", b"hello\n").await;
    let (_, promise) = runner.promise("outputs", b"abc").await;
    let key = format!("staged/{}/{}/outputs.tar.zst", at.run, at.attempt);
    let open = async || {
        sweep_uploads(&api.database.pool, &api.storage).await.unwrap();
        api.storage.upload_is_open(&key, promise["upload"].as_str().unwrap()).await.unwrap()
    };
    assert!(open().await, "its attempt is at work");
    api.end_attempt(at.attempt, "lost").await;
    assert!(open().await, "an answer may still be on its way");
    let earlier = "update step_attempts set finished_at = now() - interval '11 minutes' where id = $1";
    sqlx::query(earlier).bind(at.attempt).execute(&api.database.pool).await.unwrap();
    assert!(!open().await);
    assert!(api.storage.exists(&format!("logs/pipelines/{}/test.1.log", at.run)).await.unwrap());
}
