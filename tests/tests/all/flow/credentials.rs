//! What opens a private repository: it goes in and to its own host alone. A real forge is asked in the cluster's tests.

use std::path::Path;

use buildit_tests::installation::Installation;
use serde_json::{Value, json};

use super::{id, reason};

const TOKEN: &str = "glpat-hunter2-correct-horse";

async fn put(installation: &Installation, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}{path}", installation.url);
    let answer = installation.send(|client| client.put(url).json(body)).await;
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

async fn run(installation: &Installation) -> Value {
    let (status, run) = installation.post("/api/v1/projects/web/runs", json!({ "ref": "main" })).await;
    assert_eq!(status, 201, "{run}");
    installation.ended(id(&run)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_never_shown_and_belongs_to_one_address() {
    let installation = Installation::start().await;
    let worker = installation.worker();
    let repository = installation.project("elsewhere", &[("a", "b")]).await.repository;
    let body = json!({ "name": "web", "repository": "https://git.invalid/team/web.git" });
    assert_eq!(installation.post("/api/v1/projects", body).await.0, 201);
    let path = "/api/v1/projects/web/credential";
    assert_eq!(installation.get(path).await.0, 404);
    let (status, refused) =
        put(&installation, path, &json!({ "kind": "ssh_key", "private_key": "", "known_hosts": "" })).await;
    assert_eq!((status, &refused["error"]["details"]["field"]), (422, &json!("kind")), "{refused}");

    let (status, set) = put(&installation, path, &json!({ "kind": "token", "token": TOKEN })).await;
    assert_eq!(
        (status, &set["kind"], &set["usable"], &set["username"]),
        (200, &json!("token"), &json!(true), &json!("oauth2"))
    );
    assert_eq!(installation.get(path).await, (200, set));
    let (_, log) = installation.get("/api/v1/audit?action=credential.").await;
    assert_eq!(log["items"][0]["action"], "credential.set");

    // Whoever changes where the repository is does not have the token sent there.
    let url = format!("{}/api/v1/projects/web", installation.url);
    let change = json!({ "repository": repository });
    assert_eq!(installation.send(|client| client.patch(url).json(&change)).await.status(), 200);
    assert_eq!(installation.get(path).await.1["usable"], false);
    let refused = run(&installation).await;
    assert_eq!(refused["status"], "error", "{refused:#}");
    assert!(
        reason(&refused).starts_with(
            "the project's credential was given for https://git.invalid/team/web.git, and is not shown to"
        )
    );

    // A new key of the installation seals it anew.
    let new = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let old = json!([buildit_tests::api::SECRETS_KEY]).to_string();
    let said = installation.command(
        "secrets",
        &["rotate"],
        &[("BUILDIT_SECRETS_KEY", new), ("BUILDIT_SECRETS_OLD_KEYS", &old)],
    );
    assert!(said.starts_with("1 secrets were sealed anew"), "{said}");

    let nowhere = |text: &str, place: &str| assert!(!text.contains(TOKEN), "{place} shows it");
    nowhere(&worker.said(), "the worker's log");
    nowhere(&log.to_string(), "the audit log");
    let (rows,): (String,) =
        sqlx::query_as("select coalesce(string_agg(c::text, ' '), '') from repository_credentials c")
            .fetch_one(&installation.pool)
            .await
            .unwrap();
    nowhere(&rows, "the row");
    assert!(rows.contains("token"));
    let url = format!("{}{path}", installation.url);
    assert_eq!(installation.send(|client| client.delete(&url)).await.status(), 204);
    assert_eq!(installation.send(|client| client.delete(&url)).await.status(), 404);
    let free = run(&installation).await;
    assert!(reason(&free).contains("there is no .platform.yaml"), "without one it is simply asked for: {free:#}");
    assert!(Path::new(&repository).exists());
}
