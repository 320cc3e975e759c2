//! Webhooks, to a real server that receives them.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use buildit_shared::webhook;
use buildit_tests::{eventually, installation::Installation, places};
use serde_json::{Value, json};

use super::{id, run_of};

const LIMIT: Duration = Duration::from_secs(60);
const LOCAL: (&str, &str) = ("BUILDIT_WEBHOOK_NETWORKS", r#"["127.0.0.1"]"#);
const GREEN: &str = "
pipeline:
  steps:
    - { name: a, image: debian, commands: ['true'] }
";

/// What came, and what is answered to it: 200 once the given answers are used up.
#[derive(Clone, Default)]
struct Receiver {
    messages: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

#[derive(Clone)]
enum Answer {
    Status(u16),
    RedirectTo(String),
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    receiver.messages.lock().unwrap().push((headers, body));
    match receiver.answers.lock().unwrap().pop_front() {
        None => "thank you".into_response(),
        Some(Answer::Status(status)) => (StatusCode::from_u16(status).unwrap(), "not today").into_response(),
        Some(Answer::RedirectTo(url)) => (StatusCode::FOUND, [(header::LOCATION, url)]).into_response(),
    }
}

impl Receiver {
    async fn start(answers: &[Answer]) -> (Self, SocketAddr) {
        let receiver = Self { answers: Arc::new(Mutex::new(answers.iter().cloned().collect())), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(any(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, address)
    }

    fn messages(&self) -> Vec<(HeaderMap, String)> {
        self.messages.lock().unwrap().clone()
    }
}

/// Its id and its secret.
async fn webhook(installation: &Installation, body: Value) -> (String, String) {
    let (status, made) = installation.post("/api/v1/webhooks", body).await;
    assert_eq!(status, 201, "{made}");
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn deliveries(installation: &Installation, webhook: &str) -> Vec<Value> {
    let (_, page) = installation.get(&format!("/api/v1/webhooks/{webhook}/deliveries")).await;
    page["items"].as_array().unwrap().clone()
}

/// The newest delivery, once it stands so.
async fn delivery(installation: &Installation, webhook: &str, state: &str) -> Value {
    eventually(&format!("the delivery is {state}"), LIMIT, async || {
        deliveries(installation, webhook).await.first().is_some_and(|newest| newest["state"] == state)
    })
    .await;
    let newest = deliveries(installation, webhook).await.remove(0);
    let path = format!("/api/v1/webhooks/{webhook}/deliveries/{}", newest["id"].as_str().unwrap());
    installation.get(&path).await.1
}

/// Has what waits for its time sent now, as an operator does.
async fn hurry(installation: &Installation) {
    let (_, page) = installation.get("/api/v1/fleet/jobs?kind=DeliverWebhook&state=scheduled").await;
    for job in page["items"].as_array().into_iter().flatten() {
        installation.post(&format!("/api/v1/fleet/jobs/{}/retry", job["id"].as_str().unwrap()), json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_told_once_signed_and_can_be_told_again() {
    let installation = Installation::start().await;
    let _worker = installation.worker_with(&[LOCAL]);
    let (receiver, address) = Receiver::start(&[]).await;
    let (hook, secret) = webhook(&installation, json!({ "url": format!("http://{address}/hook?a=b") })).await;
    let (_, run) = run_of(&installation, "web", GREEN).await;
    let delivered = delivery(&installation, &hook, "delivered").await;
    let messages = receiver.messages();
    let [(headers, body)] = messages.as_slice() else { panic!("{messages:?}") };
    let header = |name: &str| headers[name].to_str().unwrap();
    let second: i64 = header("webhook-timestamp").parse().unwrap();
    let signed = webhook::signature(&secret, header("webhook-id"), second, body).unwrap();
    assert_eq!(header("webhook-signature"), signed);
    assert!((jiff::Timestamp::now().as_second() - second).abs() < 60);
    assert_eq!(header("webhook-id"), delivered["id"].as_str().unwrap());
    let said: Value = serde_json::from_str(body).unwrap();
    assert_eq!(said["type"], "build.success");
    assert_eq!((&said["data"]["run"]["id"], &said["data"]["run"]["status"]), (&run["id"], &json!("success")));
    assert_eq!(said["data"]["project"]["name"], "web");
    assert_eq!(said["data"]["run"]["url"], format!("{}/runs/{}", installation.url, id(&run)));
    assert_eq!(
        (&delivered["attempts"][0]["status"], &delivered["attempts"][0]["answer"]),
        (&json!(200), &json!("thank you"))
    );
    assert_eq!(delivered["body"].as_str(), Some(body.as_str()));

    let path = format!("/api/v1/webhooks/{hook}/deliveries/{}/repeat", delivered["id"].as_str().unwrap());
    assert_eq!(installation.post(&path, json!({})).await.0, 202);
    eventually("it comes again", LIMIT, async || receiver.messages().len() == 2).await;
    let messages = receiver.messages();
    assert_eq!(
        (&messages[1].0["webhook-id"], &messages[1].1),
        (&messages[0].0["webhook-id"], body),
        "the same message"
    );
    let twice = delivery(&installation, &hook, "delivered").await;
    assert_eq!(twice["attempts"].as_array().unwrap().len(), 2, "{twice:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_next_try_is_sent_at_once_when_somebody_asks() {
    let installation = Installation::start().await;
    let _worker = installation.worker_with(&[LOCAL]);
    let (receiver, address) = Receiver::start(&[Answer::Status(500)]).await;
    let (hook, _) = webhook(&installation, json!({ "url": format!("http://{address}/") })).await;
    run_of(&installation, "web", GREEN).await;
    let later =
        "update jobs set run_at = now() + interval '1 hour' where kind = 'DeliverWebhook' and state = 'scheduled'";
    eventually("its next try is planned", LIMIT, async || {
        sqlx::query(later).execute(&installation.pool).await.unwrap().rows_affected() == 1
    })
    .await;
    let planned = delivery(&installation, &hook, "pending").await;
    let path = format!("/api/v1/webhooks/{hook}/deliveries/{}/repeat", planned["id"].as_str().unwrap());
    assert_eq!(installation.post(&path, json!({})).await.0, 202);
    let delivered = delivery(&installation, &hook, "delivered").await;
    assert_eq!(delivered["attempts"].as_array().unwrap().len(), 2, "{delivered:#}");
    assert_eq!(receiver.messages().len(), 2);
}

/// Nobody can know whether a message arrived whose answer was not noted; its id tells the receiver that it is the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_sent_and_did_not_note_comes_again_under_the_same_id() {
    let installation = Installation::start().await;
    let once = installation.folder.path().join("died");
    let crash = [LOCAL, ("TEST_CRASH_AT", places::WEBHOOK[0]), ("TEST_CRASH_ONCE", &once.to_string_lossy())];
    let dies = installation.worker_with(&crash);
    let (receiver, address) = Receiver::start(&[]).await;
    let (hook, _) = webhook(&installation, json!({ "url": format!("http://{address}/") })).await;
    let project = installation.project("web", &[(".platform.yaml", GREEN)]).await;
    let run = installation.trigger(&project).await;
    dies.killed().await;
    let _next = installation.worker_with(&[LOCAL]);
    delivery(&installation, &hook, "delivered").await;
    let ids: Vec<String> =
        receiver.messages().iter().map(|(headers, _)| headers["webhook-id"].to_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(installation.run(&run).await["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_take_it_is_asked_again_and_at_last_given_up() {
    let installation = Installation::start().await;
    let worker = installation.worker_with(&[LOCAL]);
    let elsewhere = Receiver::start(&[]).await;
    let redirect = Answer::RedirectTo(format!("http://{}/", elsewhere.1));
    let (receiver, address) = Receiver::start(&[Answer::Status(500), redirect, Answer::Status(500)]).await;
    let (hook, _) = webhook(&installation, json!({ "url": format!("http://{address}/") })).await;
    run_of(&installation, "web", GREEN).await;
    for sent in 1..=4 {
        eventually("it is sent", LIMIT, async || {
            hurry(&installation).await;
            receiver.messages().len() >= sent
        })
        .await;
    }
    let delivered = delivery(&installation, &hook, "delivered").await;
    let statuses: Vec<_> = delivered["attempts"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
    assert_eq!(statuses, [500, 302, 500, 200]);
    assert_eq!(elsewhere.0.messages().len(), 0, "a redirect is not followed");

    // A receiver that is gone.
    drop(worker);
    let _worker = installation.worker_with(&[LOCAL]);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let change = format!("{}/api/v1/webhooks/{hook}", installation.url);
    let body = json!({ "url": format!("http://{gone}/") });
    assert_eq!(installation.send(|client| client.patch(change).json(&body)).await.status(), 200);
    run_of(&installation, "app", GREEN).await;
    eventually("it is given up", LIMIT, async || {
        hurry(&installation).await;
        deliveries(&installation, &hook).await[0]["state"] == "failed"
    })
    .await;
    let failed = delivery(&installation, &hook, "failed").await;
    let attempts = failed["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 9, "{failed:#}");
    assert!(attempts.iter().all(|one| one["error"].as_str().unwrap().contains("onnect")), "{failed:#}");
    let (_, dead) = installation.get("/api/v1/fleet/jobs?state=dead").await;
    assert_eq!(dead["items"], json!([]), "a receiver's fault is no dead job");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_private_networks_are_not_reached() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let (receiver, address) = Receiver::start(&[]).await;
    let mut hooks = Vec::new();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let url = format!("http://{host}:{}/", address.port());
        hooks.push(webhook(&installation, json!({ "url": url })).await.0);
    }
    run_of(&installation, "web", GREEN).await;
    for hook in hooks {
        eventually("it is tried", LIMIT, async || {
            let (_, page) = installation.get(&format!("/api/v1/webhooks/{hook}/deliveries")).await;
            let id = page["items"][0]["id"].as_str().unwrap_or_default().to_owned();
            let (_, one) = installation.get(&format!("/api/v1/webhooks/{hook}/deliveries/{id}")).await;
            let error = one["attempts"][0]["error"].as_str().unwrap_or_default();
            error.contains("private network")
        })
        .await;
    }
    assert_eq!(receiver.messages().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_is_told() {
    let installation = Installation::start().await;
    let _worker = installation.worker_with(&[LOCAL]);
    let (receiver, address) = Receiver::start(&[]).await;
    let url = |name: &str| format!("http://{address}/{name}");
    installation.project("web", &[(".platform.yaml", GREEN)]).await;
    webhook(&installation, json!({ "url": url("failures"), "events": ["build.failure"] })).await;
    webhook(&installation, json!({ "url": url("web"), "project": "web" })).await;
    let (off, _) = webhook(&installation, json!({ "url": url("off") })).await;
    let path = format!("{}/api/v1/webhooks/{off}", installation.url);
    installation.send(|client| client.patch(path).json(&json!({ "active": false }))).await;
    let red = GREEN.replace("true", "false");
    run_of(&installation, "app", &red).await;
    eventually("the failure is told", LIMIT, async || receiver.messages().len() == 1).await;
    let said: Value = serde_json::from_str(&receiver.messages()[0].1).unwrap();
    assert_eq!((&said["type"], &said["data"]["project"]["name"]), (&json!("build.failure"), &json!("app")));
    let (told,): (i64,) =
        sqlx::query_as("select count(*) from webhook_deliveries").fetch_one(&installation.pool).await.unwrap();
    assert_eq!(told, 1);
}
