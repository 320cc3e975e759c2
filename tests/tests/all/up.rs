//! `buildit up`: everything in one process, from start to stop.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use buildit_tests::{
    eventually,
    installation::{git, programs},
    ports,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(120);

/// The data folder and the port of an installation, which may be up or down.
struct Machine {
    folder: TempDir,
    port: u16,
}

struct Up<'a> {
    process: Child,
    machine: &'a Machine,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("buildit-up-").tempdir().unwrap();
        // Its Postgres and its steps run as other users where the tests are root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = ports::free();
        Self { folder, port }
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it and waits until it greets.
    async fn up(&self) -> Up<'_> {
        let output = fs::File::create(self.folder.path().join("said")).unwrap();
        let mut command = Command::new(programs().join("buildit"));
        // What names the test cluster's servers is no setting.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BUILDIT_")) {
            command.env_remove(name);
        }
        let process = command
            .args(["up", "--executor", "local", "--listen", &format!("127.0.0.1:{}", self.port), "--data-dir"])
            .arg(self.data())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env_remove("DATABASE_URL")
            .stderr(output.try_clone().unwrap())
            .stdout(output)
            .spawn()
            .unwrap();
        let mut up = Up { process, machine: self };
        eventually("it greets", LIMIT, async || {
            assert!(up.process.try_wait().unwrap().is_none(), "it ended: {}", self.said());
            self.said().contains("BuildIt is up at")
        })
        .await;
        up
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

impl Up<'_> {
    /// As Ctrl-C does.
    async fn stop(self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
        self.stopped().await;
    }

    async fn stopped(mut self) {
        eventually("it stops", LIMIT, async || self.process.try_wait().unwrap().is_some()).await;
        let said = self.machine.said();
        assert!(self.process.wait().unwrap().success(), "{said}");
        assert!(said.ends_with("steps that were at work go on at the next start.\n"), "its last word: {said}");
    }

    /// What the page behind the link of the first start does.
    async fn choose_password(&self, link: &str) {
        let (base, token) = link.split_once("/welcome/").unwrap();
        let request = buildit_tests::api::client().post(format!("{base}/api/v1/welcome/{token}"));
        let answer = request.json(&json!({ "password": "correct horse battery" })).send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }

    async fn runs(&self) -> Vec<Value> {
        let said = self.machine.said();
        let key = said.split_once("API key   ").unwrap().1.lines().next().unwrap();
        let url = format!("http://127.0.0.1:{}/api/v1/projects/hello/runs", self.machine.port);
        let page: Value =
            buildit_tests::api::client().get(url).bearer_auth(key).send().await.unwrap().json().await.unwrap();
        page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        // Its Postgres must not outlive the test.
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.process), Signal::INT);
            let _ = self.process.wait();
        }
    }
}

/// What the hook leaves of a push when the machine is switched off before it is announced.
fn keep_push(repository: &Path) -> Uuid {
    let commit = git(repository, &["rev-parse", "refs/heads/main"]);
    let delivery = Uuid::now_v7();
    let push = json!({ "delivery": delivery, "ref": "refs/heads/main", "before": commit, "after": commit });
    let file = repository.join(format!("buildit/spool/0000000009-{delivery}.json"));
    fs::write(file, push.to_string()).unwrap();
    delivery
}

/// A terminal signals everything that runs in it, and a program around ours passes its own signal on.
#[tokio::test(flavor = "multi_thread")]
async fn one_press_of_ctrl_c_that_comes_several_times_stops_everything() {
    let machine = Machine::new();
    let up = machine.up().await;
    let pid = fs::read_to_string(machine.data().join("postgres/data/postmaster.pid")).unwrap();
    let postgres = format!("/proc/{}", pid.lines().next().unwrap());
    assert!(fs::exists(&postgres).unwrap());
    for _ in 0..20 {
        kill_process(Pid::from_child(&up.process), Signal::INT).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    up.stopped().await;
    assert!(machine.said().contains("Stopped. Everything is kept"), "{}", machine.said());
    assert!(!fs::exists(&postgres).unwrap(), "its Postgres outlived it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_while_it_was_down_is_announced_at_the_next_start() {
    let machine = Machine::new();
    let up = machine.up().await;
    assert_eq!(up.runs().await.len(), 1, "the sample's first: {}", machine.said());
    assert!(!machine.said().contains("Announcing"), "{}", machine.said());
    let link = machine.said().split_once("  sign in   ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    up.choose_password(&link).await;
    up.stop().await;
    let repository = machine.data().join("repositories/hello.git");
    keep_push(&repository);

    let up = machine.up().await;
    let runs = up.runs().await;
    assert_eq!((runs.len(), &runs[0]["number"], &runs[0]["trigger"]), (2, &json!(2), &json!("push")), "{runs:?}");
    let said = machine.said();
    assert!(!said.contains("  sign in   "), "the account has a password: {said}");
    assert!(said.contains("Announcing pushes to ") && said.contains("run #2 "), "{said}");
    let spool = repository.join("buildit/spool");
    let kept = spool
        .read_dir()
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "json"));
    assert_eq!(kept.count(), 0);
    up.stop().await;
}
