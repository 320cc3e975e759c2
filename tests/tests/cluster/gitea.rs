//! A real forge, from its private repository to the statuses that it shows.

use std::{fs, path::Path, process::Command};

use buildit_tests::{
    PATIENCE, eventually,
    gitea::{Gitea, USER},
    installation::{Installation, Worker, git},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Pushes to `main` pass, and merge requests wait until somebody ends them.
const FILE: &str = "
pipeline:
  on:
    push: { branches: [main] }
    mr: { actions: [opened, synchronized] }
  steps:
    - { name: quick, image: debian, commands: ['git log --oneline'], when: { event: [push, api] } }
    - { name: slow, image: debian, commands: ['sleep 600'], when: { event: [mr] } }
";

/// A private repository there, and a project here that is its.
struct Story {
    gitea: Gitea,
    installation: Installation,
    worker: Worker,
    work: TempDir,
}

impl Story {
    async fn begin() -> Self {
        let (gitea, installation) = (Gitea::start().await, Installation::start().await);
        let certificate = gitea.certificate.to_string_lossy().into_owned();
        let worker = installation.worker_with(&[
            ("GIT_SSL_CAINFO", &certificate),
            ("SSL_CERT_FILE", &certificate),
            ("BUILDIT_WEBHOOK_NETWORKS", r#"["127.0.0.1"]"#),
        ]);
        let repository = json!({ "name": "web", "private": true, "default_branch": "main" });
        let (status, made) = gitea.ask(Method::POST, "/user/repos", &repository).await;
        assert_eq!(status, 201, "{made}");
        let project = json!({ "name": "web", "repository": gitea.repository("web") });
        let (status, made) = installation.post("/api/v1/projects", project).await;
        assert_eq!(status, 201, "{made}");
        let work = tempfile::tempdir().unwrap();
        git(work.path(), &["init", "-q", "--initial-branch=main"]);
        Self { gitea, installation, worker, work }
    }

    async fn put(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/v1/projects/web{path}", self.installation.url);
        let answer = self.installation.send(|client| client.put(url).json(body)).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// Both sides know of each other.
    async fn introduce(&self) -> String {
        let set = self.put("/forge", &json!({ "forge": "gitea" })).await;
        let hook = json!({
            "type": "gitea", "active": true, "events": ["push", "pull_request", "pull_request_sync"],
            "config": { "url": set["url"], "content_type": "json", "secret": set["secret"] },
        });
        let (status, made) = self.gitea.ask(Method::POST, &format!("/repos/{USER}/web/hooks"), &hook).await;
        assert_eq!(status, 201, "{made}");
        let token = self.gitea.token("statuses", "write:repository");
        let to = self.put("/forge/statuses", &json!({ "forge": "gitea", "token": token })).await;
        assert_eq!(to["api_url"], format!("{}/api/v1", self.gitea.url));
        assert_eq!(to["repository"], format!("{USER}/web"));
        token
    }

    /// Pushes a commit with the pipeline file; returns it.
    fn push(&self, branch: &str, message: &str) -> String {
        fs::write(self.work.path().join(".platform.yaml"), FILE).unwrap();
        git(self.work.path(), &["checkout", "-q", "-B", branch]);
        git(self.work.path(), &["add", "-A"]);
        git(self.work.path(), &["commit", "-q", "--allow-empty", "-m", message]);
        let pushed = Command::new("git")
            .args(["push", "-q", &self.gitea.pushable("web"), branch])
            .current_dir(self.work.path())
            .env("GIT_SSL_CAINFO", &self.gitea.certificate)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
        git(self.work.path(), &["rev-parse", "HEAD"])
    }

    /// The run of a commit by that trigger, once it is there.
    async fn run_of(&self, commit: &str, trigger: &str) -> String {
        let mut found = None;
        eventually("the forge's message makes a run", PATIENCE, async || {
            let (_, page) = self.installation.get("/api/v1/projects/web/runs").await;
            let runs = page["items"].as_array().cloned().unwrap_or_default();
            let of = |run: &&Value| run["commit_sha"] == commit && run["trigger"] == trigger;
            found = runs.iter().find(of).map(|run| run["id"].as_str().unwrap().to_owned());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until the forge shows this for the commit.
    async fn shows(&self, commit: &str, context: &str, state: &str, run: &str) -> String {
        let mut described = String::new();
        let path = format!("/repos/{USER}/web/commits/{commit}/status");
        eventually(&format!("the forge shows {state}"), PATIENCE, async || {
            let (_, combined) = self.gitea.get(&path).await;
            let statuses = combined["statuses"].as_array().cloned().unwrap_or_default();
            let url = format!("{}/runs/{run}", self.installation.url);
            let one = statuses.iter().find(|one| one["context"] == context && one["target_url"] == url);
            described = one.map(|one| one["description"].to_string()).unwrap_or_default();
            one.is_some_and(|one| one["status"] == state)
        })
        .await;
        described
    }

    async fn retried(&self, run: &str) -> Value {
        let (status, said) = self.installation.post(&format!("/api/v1/runs/{run}/retry"), json!({})).await;
        assert_eq!(status, 202, "{said}");
        self.installation.ended(run).await
    }

    async fn triggered(&self) -> Value {
        let (status, run) = self.installation.post("/api/v1/projects/web/runs", json!({ "ref": "main" })).await;
        assert_eq!(status, 201, "{run}");
        self.installation.ended(run["id"].as_str().unwrap()).await
    }
}

#[track_caller]
fn ends_with(run: &Value, status: &str, reason: &str) {
    let said = run["reason"].as_str().unwrap_or_default();
    assert!(run["status"] == status && said.contains(reason), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_built_and_its_forge_shows_it() {
    let story = Story::begin().await;
    let statuses_token = story.introduce().await;
    let commit = story.push("main", "first");
    let run = story.run_of(&commit, "push").await;
    ends_with(&story.installation.ended(&run).await, "error", "is private, and the project has no credential for it");
    story.shows(&commit, "buildit/default", "error", &run).await;

    story.put("/credential", &json!({ "kind": "token", "token": "0".repeat(40) })).await;
    ends_with(&story.retried(&run).await, "error", "does not open to the project's token");
    let elsewhere = story.gitea.token("elsewhere", "write:issue");
    story.put("/credential", &json!({ "kind": "token", "token": elsewhere })).await;
    ends_with(&story.retried(&run).await, "error", "does not open to the project's token");
    let token = story.gitea.token("clone", "read:repository");
    story.put("/credential", &json!({ "kind": "token", "token": token })).await;
    let passed = story.retried(&run).await;
    assert_eq!(passed["status"], "success", "{passed:#}");
    let described = story.shows(&commit, "buildit/default", "success", &run).await;
    assert_eq!(described, "\"#1 passed\"");

    let head = story.push("changes", "second");
    let request = json!({ "title": "A change", "head": "changes", "base": "main" });
    let (status, made) = story.gitea.ask(Method::POST, &format!("/repos/{USER}/web/pulls"), &request).await;
    assert_eq!(status, 201, "{made}");
    let opened = story.run_of(&head, "mr").await;
    story.installation.until(&opened, "it runs", |run| run["status"] == "running").await;
    story.shows(&head, "buildit/default/mr", "pending", &opened).await;
    let next = story.push("changes", "third");
    let synchronized = story.run_of(&next, "mr").await;
    story.shows(&next, "buildit/default/mr", "pending", &synchronized).await;
    let closed = json!({ "state": "closed" });
    let (status, said) = story.gitea.ask(Method::PATCH, &format!("/repos/{USER}/web/pulls/1"), &closed).await;
    assert_eq!(status, 201, "{said}");
    for (run, commit) in [(opened, head), (synchronized, next)] {
        ends_with(&story.installation.ended(&run).await, "cancelled", "the end of its merge request");
        story.shows(&commit, "buildit/default/mr", "error", &run).await;
    }

    let said = story.worker.said();
    for secret in [&statuses_token, &token, &elsewhere] {
        assert!(!said.contains(secret.as_str()), "the worker's log shows a token");
        let found = Command::new("grep").args(["-rlF", secret]).arg(story.installation.folder.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a file of ours has a token");
    }
}

/// A new pair; its private half and its public one.
fn key_pair(folder: &Path, name: &str) -> (String, String) {
    let path = folder.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    (fs::read_to_string(&path).unwrap(), fs::read_to_string(path.with_extension("pub")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_key_opens_a_repository_at_the_host_that_is_known() {
    let story = Story::begin().await;
    story.push("main", "first");
    let project = json!({ "repository": format!("ssh://{}/{USER}/web.git", story.gitea.ssh) });
    let url = format!("{}/api/v1/projects/web", story.installation.url);
    assert_eq!(story.installation.send(|client| client.patch(url).json(&project)).await.status(), 200);
    let keys = tempfile::tempdir().unwrap();
    let (private_key, public) = key_pair(keys.path(), "deploy");
    let known_hosts = story.gitea.known_hosts();
    let set = async |private_key: &str, known_hosts: &str| {
        let body = json!({ "kind": "ssh_key", "private_key": private_key, "known_hosts": known_hosts });
        story.put("/credential", &body).await
    };
    set(&private_key, &known_hosts).await;
    ends_with(&story.triggered().await, "error", "does not open to the project's SSH key");

    let deploy = json!({ "title": "BuildIt", "key": public, "read_only": true });
    let (status, made) = story.gitea.ask(Method::POST, &format!("/repos/{USER}/web/keys"), &deploy).await;
    assert_eq!(status, 201, "{made}");
    let run = story.triggered().await;
    assert_eq!(run["status"], "success", "{run:#} {}", story.gitea.said());

    let (_, of_another) = key_pair(keys.path(), "another");
    let port = story.gitea.ssh.rsplit(':').next().unwrap();
    set(&private_key, &format!("[127.0.0.1]:{port} {of_another}")).await;
    ends_with(&story.triggered().await, "error", "shows another key than the project's credential knows it by");
}
