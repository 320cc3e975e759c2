//! Commit statuses, to a server that takes them as the forges' documents say.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use buildit_tests::{
    eventually,
    installation::{Installation, Project, git},
    places,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::id;

const LIMIT: Duration = Duration::from_secs(60);
const LOCAL: (&str, &str) = ("BUILDIT_WEBHOOK_NETWORKS", r#"["127.0.0.1"]"#);
const TOKEN: &str = "hunter2-correct-horse";
const GREEN: &str = "
pipeline:
  steps:
    - { name: a, image: debian, commands: ['true'] }
";

/// A request that came.
#[derive(Clone, Debug)]
struct Message {
    path: String,
    headers: HeaderMap,
    body: Value,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn state(&self) -> &str {
        self.body["state"].as_str().unwrap()
    }
}

/// What came, and what is answered to it: 201 once the given answers are used up.
#[derive(Clone, Default)]
struct Forge {
    messages: Arc<Mutex<Vec<Message>>>,
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
}

async fn receive(State(forge): State<Forge>, method: Method, uri: Uri, headers: HeaderMap, body: String) -> Response {
    if method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let body = serde_json::from_str(&body).unwrap_or(Value::Null);
    forge.messages.lock().unwrap().push(Message { path: uri.to_string(), headers, body });
    let (status, said) = forge.answers.lock().unwrap().pop_front().unwrap_or((201, "{}"));
    (StatusCode::from_u16(status).unwrap(), said).into_response()
}

impl Forge {
    async fn start(answers: &[(u16, &'static str)]) -> (Self, SocketAddr) {
        let forge = Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(any(receive)).with_state(forge.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (forge, address)
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    fn states(&self) -> Vec<String> {
        self.messages().iter().map(|message| message.state().to_owned()).collect()
    }

    /// Once the last one says so.
    async fn shows(&self, state: &str) {
        eventually(&format!("{state} is shown"), LIMIT, async || {
            self.messages().last().is_some_and(|message| message.state() == state)
        })
        .await;
    }
}

/// A project whose statuses go there, and its commit.
async fn project(installation: &Installation, forge: &str, address: SocketAddr, file: &str) -> (Project, String) {
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    tell(installation, forge, address).await;
    let commit = git(project.work(), &["rev-parse", "HEAD"]);
    (project, commit)
}

async fn tell(installation: &Installation, forge: &str, address: SocketAddr) {
    let path = format!("{}/api/v1/projects/web/forge/statuses", installation.url);
    let api = format!("http://{address}/api/");
    let body = json!({ "forge": forge, "token": TOKEN, "api_url": api, "repository": "team/web" });
    let answer = installation.send(|client| client.put(path).json(&body)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

async fn statuses(installation: &Installation) -> Value {
    installation.get("/api/v1/projects/web/forge/statuses").await.1
}

/// Once the forge has taken the newest one.
async fn is_sent(installation: &Installation, status: &str) {
    eventually("it is noted as sent", LIMIT, async || {
        let newest = statuses(installation).await["newest"][0].clone();
        newest["status"] == status && newest["sent"] == true
    })
    .await;
}

/// Has what waits for its time sent now, as an operator does.
async fn hurry(installation: &Installation) {
    let (_, page) = installation.get("/api/v1/fleet/jobs?kind=ReportStatus&state=scheduled").await;
    for job in page["items"].as_array().into_iter().flatten() {
        installation.post(&format!("/api/v1/fleet/jobs/{}/retry", job["id"].as_str().unwrap()), json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_forge_gets_what_it_documents() {
    let installation = Installation::start().await;
    let _worker = installation.worker_with(&[LOCAL]);
    let (github, gitea, gitlab) = (Forge::start(&[]).await, Forge::start(&[]).await, Forge::start(&[]).await);
    let (project, commit) = project(&installation, "github", github.1, GREEN).await;
    let mut pages = Vec::new();
    for (name, (forge, address)) in [("github", &github), ("gitea", &gitea), ("gitlab", &gitlab)] {
        tell(&installation, name, *address).await;
        let run = installation.trigger(&project).await;
        installation.ended(&run).await;
        forge.shows("success").await;
        is_sent(&installation, "success").await;
        pages.push(format!("{}/runs/{run}", installation.url));
    }
    let last = |forge: &Forge| forge.messages().pop().unwrap();
    let body = |page: &str, number: u32, context: &str| {
        json!({ "state": "success", "target_url": page, "description": format!("#{number} passed"),
                context: "buildit/default" })
    };
    let sent = last(&github.0);
    assert_eq!(sent.path, format!("/api/repos/team/web/statuses/{commit}"));
    assert_eq!(sent.header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(sent.header("accept"), "application/vnd.github+json");
    assert_eq!(sent.header("x-github-api-version"), "2022-11-28");
    assert_eq!(sent.body, body(&pages[0], 1, "context"));
    let sent = last(&gitea.0);
    assert_eq!(sent.path, format!("/api/repos/team/web/statuses/{commit}"));
    assert_eq!(sent.header("authorization"), format!("token {TOKEN}"));
    assert_eq!(sent.body, body(&pages[1], 2, "context"));
    let sent = last(&gitlab.0);
    assert_eq!(sent.path, format!("/api/projects/team%2Fweb/statuses/{commit}"));
    assert_eq!(sent.header("private-token"), TOKEN);
    assert_eq!(sent.body, body(&pages[2], 3, "name"));
    // A run that was over in no time may never have been at work when it was asked about.
    for (forge, at_work) in [(&github.0, "pending"), (&gitea.0, "pending"), (&gitlab.0, "running")] {
        let states = forge.states();
        assert!(states == [at_work, "success"] || states == ["success"], "{states:?}");
    }
    let shown = statuses(&installation).await;
    assert_eq!((&shown["forge"], &shown["repository"]), (&json!("gitlab"), &json!("team/web")));
    assert!(!shown.to_string().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_pass_says_why() {
    let installation = Installation::start().await;
    let _worker = installation.worker_with(&[LOCAL]);
    let (forge, address) = Forge::start(&[]).await;
    let (red, long) = (GREEN.replace("'true'", "'exit 3'"), GREEN.replace("'true'", "'sleep 600'"));
    let (project, _) = project(&installation, "github", address, &red).await;
    let told = async |file: &str, state: &str| {
        project.commit(&[(".platform.yaml", file)]);
        let run = installation.trigger(&project).await;
        if file == long {
            installation.until(&run, "it runs", |run| run["steps"][0]["status"] == "running").await;
            forge.shows("pending").await;
            installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
        }
        let run = installation.ended(&run).await;
        forge.shows(state).await;
        is_sent(&installation, run["status"].as_str().unwrap()).await;
        forge.messages().pop().unwrap().body["description"].as_str().unwrap().to_owned()
    };
    let failed = told(&red, "failure").await;
    assert!(failed.starts_with("#1 failed: step `a`: ") && failed.contains('3'), "{failed}");
    let cancelled = told(&long, "error").await;
    assert_eq!(cancelled, "#2 was cancelled: cancelled by key all");
    let broken = told("pipeline: { stepz: [] }", "error").await;
    assert!(broken.starts_with("#3 ended in an error: .platform.yaml:1:"), "{broken}");
    assert!(broken.chars().count() <= 140);
}

/// Two requests on their way at once could arrive in any order.
#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_dies_or_freezes_the_forge_shows_the_end_at_last() {
    for (place, by) in [(places::STATUS[0], "KILL"), (places::STATUS[1], "KILL"), (places::STATUS[0], "STOP")] {
        let installation = Installation::start().await;
        let once = installation.folder.path().join("died");
        let crash =
            [LOCAL, ("TEST_CRASH_AT", place), ("TEST_CRASH_ONCE", &once.to_string_lossy()), ("TEST_CRASH_BY", by)];
        let first = installation.worker_with(&crash);
        let (forge, address) = Forge::start(&[]).await;
        let (project, _) = project(&installation, "gitlab", address, GREEN).await;
        let run = installation.trigger(&project).await;
        if by == "STOP" {
            first.frozen().await
        } else {
            first.killed().await
        }
        let before = forge.states().len();
        let next = installation.worker_with(&[LOCAL]);
        installation.ended(&run).await;
        is_sent(&installation, "success").await;
        let states = forge.states();
        let after = &states[before..];
        // On a slow machine it is sent while the run is still at work.
        assert!(
            after == ["success"] || after == ["running", "success"],
            "{place}: what is out of date is not sent: {states:?}"
        );
        if by == "STOP" {
            first.signal(Signal::CONT);
            installation.rejoined(&first).await;
            // What it does first as it thaws is over when others' work reaches it.
            drop(next);
            let after = installation.trigger(&project).await;
            installation.ended(&after).await;
            is_sent(&installation, "success").await;
            let later = &forge.messages()[states.len()..];
            let of_its_own = |message: &Message| message.body["target_url"].as_str().unwrap().ends_with(&after);
            assert!(later.iter().all(of_its_own), "{place}: {later:#?}");
        }
    }
}

/// Whoever freezes in the middle of a request may send the rest of it at any time.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_comes_late_is_followed_by_the_newest_once_more() {
    let installation = Installation::start().await;
    let first = installation.worker_that_freezes_at_with(places::STATUS[2], &[LOCAL]);
    let (forge, address) = Forge::start(&[]).await;
    let (project, _) = project(&installation, "gitea", address, GREEN).await;
    let run = installation.trigger(&project).await;
    first.frozen().await;
    assert_eq!(forge.messages().len(), 0);
    let _next = installation.worker_with(&[LOCAL]);
    installation.ended(&run).await;
    is_sent(&installation, "success").await;
    assert_eq!(forge.states(), ["success"], "only the newest");
    first.signal(Signal::CONT);
    // What it had begun to send comes, unless it learns before that it is not its turn any more.
    eventually("the newest is sent once more", LIMIT, async || {
        let states = forge.states();
        states == ["success", "pending", "success"] || states == ["success", "success"]
    })
    .await;
    is_sent(&installation, "success").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_run_that_ends_later_changes_nothing() {
    let installation = Installation::start().await;
    let _worker = installation.worker_with(&[LOCAL]);
    let (forge, address) = Forge::start(&[]).await;
    // The first of them waits, the others do not.
    let marker = installation.shared.join("first");
    let command = format!("mkdir {} || exit 0; sleep 600", marker.display());
    let (project, _) = project(&installation, "gitea", address, &GREEN.replace("true", &command)).await;
    let older = installation.trigger(&project).await;
    installation.until(&older, "it waits", |_| marker.exists()).await;
    let (_, newer) = installation.post(&format!("/api/v1/runs/{older}/rerun"), json!({})).await;
    let ended = installation.ended(id(&newer)).await;
    assert_eq!(ended["status"], "success", "{ended:#}");
    is_sent(&installation, "success").await;
    installation.post(&format!("/api/v1/runs/{older}/cancel"), json!({})).await;
    assert_eq!(installation.ended(&older).await["status"], "cancelled");
    let newest = statuses(&installation).await["newest"].clone();
    assert_eq!((&newest[0]["status"], &newest[0]["run_id"]), (&json!("success"), &newer["id"]), "{newest:#}");
    assert_eq!(newest.as_array().unwrap().len(), 1, "of one commit and pipeline");
    assert_eq!(forge.states().last().unwrap(), "success");
    // A retry is newer than what it was before.
    let (status, said) = installation.post(&format!("/api/v1/runs/{older}/rerun"), json!({})).await;
    assert_eq!(status, 201, "{said}");
    installation.ended(id(&said)).await;
    eventually("the newest run is shown", LIMIT, async || {
        statuses(&installation).await["newest"][0]["run_id"] == said["id"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_does_not_take_it_is_asked_again_and_what_it_said_is_shown() {
    let installation = Installation::start().await;
    let worker = installation.worker_with(&[LOCAL]);
    let (forge, address) =
        Forge::start(&[(401, "who are you, hunter2-correct-horse?"), (401, "no"), (503, "away"), (302, "")]).await;
    let (project, _) = project(&installation, "gitea", address, GREEN).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    let mut errors = Vec::new();
    eventually("it is taken", LIMIT, async || {
        let newest = statuses(&installation).await["newest"][0].clone();
        errors.extend(newest["error"].as_str().map(str::to_owned));
        hurry(&installation).await;
        newest["sent"] == true && newest["status"] == "success"
    })
    .await;
    assert!(errors.iter().any(|error| error.contains("the forge answered 401: ")), "{errors:?}");
    assert!(!errors.concat().contains(TOKEN) && !worker.said().contains(TOKEN));
    assert_eq!(forge.states().last().unwrap(), "success");
    let (_, dead) = installation.get("/api/v1/fleet/jobs?state=dead").await;
    assert_eq!(dead["items"], json!([]), "a forge's fault is no dead job");
    // GitLab's word for: it is so already.
    let (forge, address) =
        Forge::start(&[(400, r#"{"message": "Cannot transition status via :run from :running (Reason(s): x)"}"#)])
            .await;
    tell(&installation, "gitlab", address).await;
    installation.ended(&installation.trigger(&project).await).await;
    is_sent(&installation, "success").await;
    assert!(forge.messages().len() <= 2, "{:?}", forge.states());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_no_private_network_that_is_not_allowed() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let (forge, address) = Forge::start(&[]).await;
    let (project, _) = project(&installation, "gitea", address, GREEN).await;
    installation.trigger(&project).await;
    eventually("it is tried", LIMIT, async || {
        let newest = statuses(&installation).await["newest"][0].clone();
        newest["error"].as_str().unwrap_or_default().contains("private network")
    })
    .await;
    assert_eq!(forge.messages().len(), 0);
}
