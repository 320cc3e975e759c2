use buildit_tests::{api::Api, s3, uploads::Runner};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn what_a_runner_stores_goes_straight_to_the_bucket() {
    let api = Api::with_storage(s3::storage()).await;
    api.project("web").await;
    let at = api.running_step("web").await;
    let runner = Runner::begun(&api, at).await;
    let large: Vec<u8> = (0..(17 << 20) + 3).map(|n: u32| (n % 251) as u8).collect();
    runner.store("log", b"hello\n").await;
    runner.store("outputs", &large).await;
    runner.store("artifacts/results", b"").await;
    let get = async |key: String| api.storage.get(&key).await.unwrap();
    assert_eq!(get(format!("logs/pipelines/{}/test.1.log", at.run)).await, "hello\n");
    assert!(get(format!("staged/{}/{}/outputs.tar.zst", at.run, at.attempt)).await == large);
    assert_eq!(get(format!("staged/{}/{}/artifacts/results.tar.zst", at.run, at.attempt)).await, "");
    let (status, again) = runner.promise("outputs", &large).await;
    assert_eq!((status, &again["exists"]), (200, &json!(true)));
}

#[tokio::test]
async fn an_upload_that_the_store_forgot_begins_anew() {
    let api = Api::with_storage(s3::storage()).await;
    api.project("web").await;
    let at = api.running_step("web").await;
    let runner = Runner::begun(&api, at).await;
    let (_, first) = runner.promise("outputs", b"abc").await;
    assert_eq!(runner.promise("outputs", b"abc").await, (200, first.clone()));
    let key = format!("staged/{}/{}/outputs.tar.zst", at.run, at.attempt);
    api.storage.abort_upload(&key, first["upload"].as_str().unwrap()).await.unwrap();
    assert_eq!(runner.send("outputs", &first["upload"], 1, b"abc").await.0, 404);
    runner.store("outputs", b"abc").await;
}

#[tokio::test]
async fn the_api_is_ready_when_its_bucket_answers() {
    let api = Api::with_storage(s3::storage()).await;
    assert_eq!(api.anonymous(Method::GET, "/readyz").send().await.unwrap().status(), 200);
    let settings = s3::at(&s3::settings(), "http://127.0.0.1:1".parse().unwrap());
    let away = Api::with_storage(buildit_shared::storage::Storage::s3(settings).unwrap()).await;
    let answer = away.anonymous(Method::GET, "/readyz").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("storage_unavailable"));
    assert_eq!(away.anonymous(Method::GET, "/healthz").send().await.unwrap().status(), 200);
}
