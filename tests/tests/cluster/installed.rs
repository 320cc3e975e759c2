//! What the chart installs, at work: a push turns green, and nothing is lost or run twice while workers come, go and are
//! replaced by a newer version.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buildit_tests::{
    PATIENCE,
    api::SECRETS_KEY,
    eventually,
    installation::{Installation, SIGNING_KEY},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::chart::printed;

/// The image's name; its tags are the versions.
const IMAGE: &str = "buildit-chart";

const FILE: &str = "
pipeline:
  steps:
    - { name: one, image: buildit.test/busybox:1, commands: [echo began, sleep 2, echo made > file], outputs: [file] }
    - { name: two, image: buildit.test/busybox:1, commands: [cat file, sleep 2] }
";
const LOGS: [(&str, &str); 2] =
    [("one", "$ echo began\nbegan\n$ sleep 2\n$ echo made > file\n"), ("two", "$ cat file\nmade\n$ sleep 2\n")];

/// A release of the chart beside an installation, whose database and objects it shares.
struct Release<'a> {
    installation: &'a Installation,
    namespace: String,
    /// Its API.
    url: String,
    values: Value,
}

impl<'a> Release<'a> {
    async fn new(installation: &'a Installation) -> Self {
        let namespace = installation.cluster().namespace.clone();
        let database = reachable(installation).await;
        let s3 = installation.s3();
        let key = s3.access_key.clone().unwrap();
        // The chart's own port, at the node's address: the cluster has no names for Services.
        let node =
            ["cluster", "kubectl", "get", "node", "--output", "jsonpath={.items[0].status.addresses[0].address}"];
        let url = format!("http://{}:30080", command(&node).await);
        let little = json!({ "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "memory": "512Mi" } });
        let values = json!({
            "fullnameOverride": "ci",
            "image": { "repository": format!("buildit.test/{IMAGE}"), "tag": "1", "pullPolicy": "Always" },
            "database": { "url": database },
            "signingKey": { "value": SIGNING_KEY },
            "secretsKey": { "value": SECRETS_KEY },
            "storage": {
                "bucket": s3.bucket, "endpoint": s3.endpoint.clone().unwrap(), "prefix": s3.prefix,
                "accessKey": key.id, "secretKey": key.secret,
            },
            "publicUrl": installation.url,
            "settings": "repository_roots = [\"/repositories\"]\n",
            "api": { "replicas": 2, "resources": little },
            "worker": { "replicas": 1, "slots": { "steps": 8 }, "resources": little },
            "steps": { "defaultCpuMillis": 10, "defaultMemoryMiB": 32, "apiUrl": url },
        });
        Self { installation, namespace, url, values }
    }

    /// Installs this version, or upgrades to it, and waits until all of it is ready.
    async fn upgrade(&mut self, version: &str) {
        self.values["image"]["tag"] = json!(version);
        let file = self.installation.folder.path().join("values.json");
        fs::write(&file, self.values.to_string()).unwrap();
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart");
        let [chart, file] = [&chart, &file].map(|path| path.to_string_lossy().into_owned());
        self.helm(&["upgrade", "--install", "ci", &chart, "--values", &file, "--wait", "--timeout", "3m"]).await;
        // The node's port leads to them a moment later than they are ready.
        let ready = format!("{}/readyz", self.url);
        eventually("the node's port leads to the API", PATIENCE, async || {
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    async fn helm(&self, arguments: &[&str]) -> String {
        command(&[&["helm", "--namespace", &self.namespace], arguments].concat()).await
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        command(&[&["cluster", "kubectl", "--namespace", &self.namespace], arguments].concat()).await
    }

    async fn scale(&self, workers: i64) {
        self.kubectl(&["scale", "deployment/ci-worker", &format!("--replicas={workers}")]).await;
        self.has_workers(workers).await;
    }

    async fn has_workers(&self, wanted: i64) {
        let alive = "select count(*) from workers where state = 'alive'";
        eventually(&format!("{wanted} workers are there"), PATIENCE, async || {
            sqlx::query_scalar::<_, i64>(alive).fetch_one(&self.installation.pool).await.unwrap() == wanted
        })
        .await;
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        // It made a namespace beside the installation's own.
        super::chart::dev(&["helm", "--namespace", &self.namespace, "uninstall", "ci"], b"");
    }
}

async fn command(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let run = move || printed(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), b"");
    String::from_utf8(tokio::task::spawn_blocking(run).await.unwrap()).unwrap()
}

/// The address of the installation's database for pods: the server itself listens for this machine alone.
async fn reachable(installation: &Installation) -> String {
    let mut url: reqwest::Url = installation.database_url().parse().unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let host = installation.cluster().host();
    let listener = TcpListener::bind((host.as_str(), 0)).await.unwrap();
    url.set_host(Some(&host)).unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    url.into()
}

/// Builds versions of the image in whose pods `repository` is at `/repositories/web.git`, and pushes them.
async fn images(installation: &Installation, repository: &Path, versions: &[&str]) {
    let registry = format!("{}:5000", installation.cluster().host());
    let base = format!("{registry}/{IMAGE}:base");
    command(&["image", &base]).await;
    let folder = installation.folder.path().join("image");
    fs::create_dir(&folder).unwrap();
    let copied = std::process::Command::new("cp").arg("-r").args([repository, &folder.join("web.git")]).status();
    assert!(copied.unwrap().success());
    for version in versions {
        // Git refuses repositories of somebody else.
        let file =
            format!("FROM {base}\nCOPY --chown=65532:65532 web.git /repositories/web.git\nLABEL version={version}\n");
        fs::write(folder.join("Dockerfile"), file).unwrap();
        let name = format!("{registry}/{IMAGE}:{version}");
        command(&["cluster", "docker", "build", "--quiet", "--tag", &name, &folder.to_string_lossy()]).await;
        command(&["cluster", "docker", "push", "--quiet", &name]).await;
    }
}

/// Each step of the run ran once, and its log has each line once.
async fn ran_once(installation: &Installation, run: &str) {
    let ended = installation.ended(run).await;
    assert_eq!(ended["status"], "success", "{ended:#}");
    let attempts =
        "select count(*) from step_attempts a join pipeline_steps s on s.id = a.step_id where s.run_id = $1::uuid";
    let attempts: i64 = sqlx::query_scalar(attempts).bind(run).fetch_one(&installation.pool).await.unwrap();
    assert_eq!(attempts, 2, "{ended:#}");
    for (step, log) in LOGS {
        assert_eq!(installation.log(run, step).await, log, "{step}");
    }
}

async fn pushed(installation: &Installation) -> String {
    let pushed = "select id::text from pipeline_runs where trigger = 'push'";
    sqlx::query_scalar(pushed).fetch_one(&installation.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_chart_runs_pushes_and_loses_nothing_while_it_is_scaled_and_replaced() {
    let installation = Installation::on_cluster().await;
    let project = installation.project("elsewhere", &[(".platform.yaml", FILE)]).await;
    let before = project.commit_as("the change that is pushed", &[]);
    let parent = format!("{before}^");
    images(&installation, &project.repository, &["1", "2"]).await;
    let mut release = Release::new(&installation).await;
    release.upgrade("1").await;
    release.has_workers(1).await;
    let url = release.url.clone();

    // Its own project, at the path that its pods have.
    let made = installation
        .send(|client| {
            let body = json!({ "name": "web", "repository": "/repositories/web.git" });
            client.post(format!("{url}/api/v1/projects")).json(&body)
        })
        .await;
    assert_eq!(made.status().as_u16(), 201, "{:?}", made.text().await);
    let mut web = project.clone();
    "web".clone_into(&mut web.name);
    buildit_tests::installation::git(&project.repository, &["update-ref", "refs/heads/main", &parent]);
    installation.install_hook_for(&web, &url, &[]);
    let said = web.push(&["main"]);
    assert!(said.contains(&format!("{}/runs/", installation.url)), "{said}");
    ran_once(&installation, &pushed(&installation).await).await;

    // Runs begin all the while.
    let all_done = Arc::new(AtomicBool::new(false));
    let runs = async {
        let mut runs = Vec::new();
        while runs.len() < 30 || !all_done.load(Ordering::Relaxed) {
            runs.push(installation.trigger(&web).await);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        runs
    };
    let changes = async {
        release.scale(4).await;
        release.scale(1).await;
        release.upgrade("2").await;
        release.has_workers(1).await;
        all_done.store(true, Ordering::Relaxed);
    };
    let (runs, ()) = tokio::join!(runs, changes);
    for run in &runs {
        ran_once(&installation, run).await;
    }
    let image = release.kubectl(&["get", "pod", "--output", "jsonpath={.items[*].spec.containers[*].image}"]).await;
    assert!(!image.contains(":1") && image.contains(":2"), "{image}");
    println!("{} runs, each step once, each line once", runs.len());
}
