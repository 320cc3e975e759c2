//! What forges send, from their message to the run.

use buildit_tests::installation::{Installation, Project, git};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{id, reason, started};

const FILE: &str = "
pipeline:
  on: [push, mr]
  steps:
    - { name: a, image: debian, commands: ['true'] }
";

/// A project that a forge calls for.
struct Called {
    project: Project,
    url: String,
    secret: String,
}

impl Called {
    async fn new(installation: &Installation, forge: &str, file: &str) -> Self {
        let project = installation.project("web", &[(".platform.yaml", file)]).await;
        let path = format!("{}/api/v1/projects/web/forge", installation.url);
        let set = installation.send(|client| client.put(path).json(&json!({ "forge": forge }))).await;
        assert_eq!(set.status(), 200);
        let set: Value = set.json().await.unwrap();
        let text = |name: &str| set[name].as_str().unwrap().to_owned();
        Self { project, url: text("url"), secret: text("secret") }
    }

    /// As Gitea does.
    async fn call(&self, event: &str, delivery: &str, message: &Value) -> (u16, Value) {
        let body = message.to_string();
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap().chain_update(&body).finalize();
        let signature: String = mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.call_with(
            &[("x-gitea-event", event), ("x-gitea-delivery", delivery), ("x-gitea-signature", &signature)],
            body,
        )
        .await
    }

    async fn call_with(&self, headers: &[(&str, &str)], body: String) -> (u16, Value) {
        let client = buildit_tests::api::client();
        let request =
            headers.iter().fold(client.post(&self.url), |request, (name, value)| request.header(*name, *value));
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    fn head(&self) -> String {
        git(self.project.work(), &["rev-parse", "HEAD"])
    }

    /// A merge request's message, whose commit is where the forge keeps it.
    fn request(&self, action: &str, number: u32, source: u32) -> Value {
        self.project.push(&[&format!("+main:refs/pull/{number}/head")]);
        json!({
            "action": action,
            "number": number,
            "pull_request": {
                "merged": false,
                "head": { "ref": "changes", "sha": self.head(), "repo": { "id": source } },
                "base": { "ref": "main", "sha": self.head(), "repo": { "id": 1 } },
            },
        })
    }
}

fn push(commit: &str) -> Value {
    json!({ "ref": "refs/heads/main", "before": "0".repeat(40), "after": commit })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_taken_once_and_only_from_who_knows_the_secret() {
    let (installation, _worker) = started().await;
    let called = Called::new(&installation, "gitea", FILE).await;
    let message = push(&called.head());
    let (status, made) = called.call("push", "one", &message).await;
    assert_eq!(status, 201, "{made}");
    let run = installation.ended(id(&made["runs"][0])).await;
    assert_eq!((&run["status"], &run["trigger"], &run["branch"]), (&json!("success"), &json!("push"), &json!("main")));
    let (status, again) = called.call("push", "one", &message).await;
    assert_eq!((status, &again["runs"][0]["id"]), (200, &run["id"]));
    assert_eq!(called.call("push", "two", &message).await.0, 201, "another delivery is another push");
    let wrong = "0".repeat(64);
    for headers in [&[("x-gitea-event", "push"), ("x-gitea-signature", &wrong)][..], &[("x-gitea-event", "push")]] {
        let (status, said) = called.call_with(headers, message.to_string()).await;
        assert_eq!((status, &said["error"]["code"]), (401, &json!("unauthenticated")));
    }
    let gone = json!({ "ref": "refs/heads/old", "before": called.head(), "after": "0".repeat(40) });
    assert_eq!(called.call("push", "three", &gone).await, (200, json!({ "runs": [] })));
    assert_eq!(called.call("star", "four", &json!({})).await.0, 200);
    assert_eq!(called.call("push", "five", &json!({})).await.1["error"]["code"], "invalid_message");
    let (_, log) = installation.get("/api/v1/audit?action=run.").await;
    assert!(log["items"].as_array().unwrap().iter().all(|entry| entry["actor"] == "gitea"), "{log}");
    let path = format!("{}/api/v1/projects/web/forge", installation.url);
    assert_eq!(installation.send(|client| client.delete(path)).await.status(), 204);
    assert_eq!(called.call("push", "six", &message).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_and_github_are_understood_as_well() {
    let (installation, _worker) = started().await;
    let called = Called::new(&installation, "gitlab", FILE).await;
    let message = json!({ "object_kind": "push", "ref": "refs/heads/main", "after": called.head() });
    let headers = [("x-gitlab-token", called.secret.as_str()), ("x-gitlab-event-uuid", "one")];
    assert_eq!(called.call_with(&headers, message.to_string()).await.0, 201);
    assert_eq!(called.call_with(&headers, message.to_string()).await.0, 200);
    assert_eq!(called.call_with(&[("x-gitlab-token", "another")], message.to_string()).await.0, 401);

    let path = format!("{}/api/v1/projects/web/forge", installation.url);
    let set = installation.send(|client| client.put(path).json(&json!({ "forge": "github" }))).await;
    let set: Value = set.json().await.unwrap();
    let body = push(&called.head()).to_string();
    let mac = Hmac::<Sha256>::new_from_slice(set["secret"].as_str().unwrap().as_bytes()).unwrap();
    let mac = mac.chain_update(&body).finalize().into_bytes();
    let signature = format!("sha256={}", mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let headers = [("x-github-event", "push"), ("x-github-delivery", "two"), ("x-hub-signature-256", &signature)];
    assert_eq!(called.call_with(&headers, body.clone()).await.0, 201);
    let changed = body.replace("main", "mein");
    assert_eq!(called.call_with(&headers, changed).await.0, 401, "the signature is of the very bytes");
    assert_eq!(called.call("push", "three", &push(&called.head())).await.0, 401, "the old secret is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_request_runs_at_its_head_until_it_is_over() {
    let (installation, _worker) = started().await;
    let file = FILE.replace("['true']", "['sleep 600']");
    let called = Called::new(&installation, "gitea", &file).await;
    let (status, made) = called.call("pull_request", "one", &called.request("opened", 7, 1)).await;
    assert_eq!(status, 201, "{made}");
    let run = id(&made["runs"][0]).to_owned();
    let run = installation.until(&run, "it runs", |run| run["steps"][0]["status"] == "running").await;
    assert_eq!((&run["trigger"], &run["branch"]), (&json!("mr"), &json!("changes")), "{run:#}");
    assert_eq!((&run["ref"], run["commit_sha"].as_str()), (&json!("refs/pull/7/head"), Some(called.head().as_str())));
    let (_, other) = called.call("pull_request", "two", &called.request("opened", 8, 1)).await;
    let (_, closed) = called.call("pull_request", "three", &called.request("closed", 7, 1)).await;
    let ended = installation.ended(id(&run)).await;
    assert_eq!((&ended["status"], reason(&ended)), (&json!("cancelled"), "cancelled by the end of its merge request"));
    let skipped = installation.ended(id(&closed["runs"][0])).await;
    assert_eq!(skipped["status"], "skipped", "nobody asked to run what is closed: {skipped:#}");
    let other = installation.run(id(&other["runs"][0])).await;
    assert!(matches!(other["status"].as_str(), Some("pending" | "running")), "another one goes on: {other:#}");

    let (_, again) = called.call("pull_request", "four", &called.request("opened", 7, 1)).await;
    let (status, seen) = called.call("pull_request", "three", &called.request("closed", 7, 1)).await;
    assert_eq!((status, &seen["runs"][0]["id"]), (200, &closed["runs"][0]["id"]));
    let again = installation.run(id(&again["runs"][0])).await;
    assert!(matches!(again["status"].as_str(), Some("pending" | "running")), "old news cancels nothing: {again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_gets_no_secret() {
    let (installation, _worker) = started().await;
    installation.set_secret("TOKEN", "hunter2-correct-horse").await;
    let file = FILE.replace("['true']", "['test -n \"${secrets.TOKEN}\"']");
    let called = Called::new(&installation, "gitea", &file).await;
    let (_, own) = called.call("pull_request", "one", &called.request("opened", 1, 1)).await;
    let own = installation.ended(id(&own["runs"][0])).await;
    assert_eq!(own["status"], "success", "{own:#}");
    let (_, fork) = called.call("pull_request", "two", &called.request("opened", 2, 2)).await;
    let fork = installation.ended(id(&fork["runs"][0])).await;
    assert_eq!((&fork["status"], &fork["steps"]), (&json!("error"), &json!([])), "{fork:#}");
    assert!(reason(&fork).contains("from another repository gets none"), "{fork:#}");
    let (status, again) = installation.post(&format!("/api/v1/runs/{}/rerun", id(&fork)), json!({})).await;
    assert_eq!(status, 201, "{again}");
    let again = installation.ended(id(&again)).await;
    assert_eq!(again["status"], "error", "also not by asking again: {again:#}");
}
