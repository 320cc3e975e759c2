//! A real forge: the Gitea of `./dev gitea`, over HTTPS and ssh, with a database and a folder of its own.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use reqwest::{Method, redirect::Policy};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use crate::{api, database::Database, eventually, ports};

/// It refuses to be root: where the tests are, it is this user and group.
const NOBODY: (&str, u32) = ("nobody", 65534);
/// Who everything there belongs to.
pub const USER: &str = "ada";
/// Their password there.
pub const PASSWORD: &str = "correct-horse-battery";
/// Their address, which is verified.
pub const EMAIL: &str = "ada@example.org";

/// A running Gitea with one person; killed when dropped.
#[derive(Debug)]
pub struct Gitea {
    /// Without a slash at the end.
    pub url: String,
    /// Where it takes ssh, `USER@HOST:PORT`.
    pub ssh: String,
    /// What its certificate is known by.
    pub certificate: PathBuf,
    folder: TempDir,
    client: reqwest::Client,
    process: Child,
}

impl Drop for Gitea {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Gitea {
    /// Starts one and makes its person.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("buildit-gitea-").tempdir().expect("a folder");
        take_over(folder.path());
        let (http, ssh) = (ports::free(), ports::free());
        let url = format!("https://127.0.0.1:{http}");
        run(folder.path(), &["cert", "--host", "127.0.0.1", "--ecdsa-curve", "P256"]);
        let database: Url = Database::empty().await.parse().expect("its address");
        let settings = settings(folder.path(), &url, http, ssh, &database);
        fs::write(folder.path().join("app.ini"), settings).expect("its settings");
        give_away(&folder.path().join("app.ini"));
        run(folder.path(), &["migrate"]);
        let create =
            ["admin", "user", "create", "--admin", "--username", USER, "--password", PASSWORD, "--email", EMAIL];
        run(folder.path(), &[&create[..], &["--must-change-password=false"]].concat());
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let process = command(folder.path(), &["web"]).stdout(Stdio::null()).stderr(log).spawn().expect("gitea starts");
        let certificate = folder.path().join("cert.pem");
        let client = client(&certificate);
        let ssh = format!("{}@127.0.0.1:{ssh}", user().0);
        let gitea = Self { url, ssh, certificate, folder, client, process };
        eventually("gitea answers", crate::PATIENCE, async || gitea.get("/version").await.0 == 200).await;
        gitea
    }

    /// A client that knows it, and follows no redirect.
    pub fn client(&self) -> reqwest::Client {
        client(&self.certificate)
    }

    /// Takes it away.
    pub fn stop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("it ends");
    }

    /// The address of one of its repositories.
    pub fn repository(&self, name: &str) -> String {
        format!("{}/{USER}/{name}.git", self.url)
    }

    /// The same, for its person to push to.
    pub fn pushable(&self, name: &str) -> String {
        self.repository(name).replace("https://", &format!("https://{USER}:{PASSWORD}@"))
    }

    /// A token for its API and for git, with these scopes.
    pub fn token(&self, name: &str, scopes: &str) -> String {
        let arguments = ["admin", "user", "generate-access-token", "--username", USER, "--token-name", name, "--raw"];
        run(self.folder.path(), &[&arguments[..], &["--scopes", scopes]].concat())
    }

    /// The lines of `known_hosts` for its ssh server.
    pub fn known_hosts(&self) -> String {
        let port = self.ssh.rsplit(':').next().expect("a port");
        let said = Command::new("ssh-keyscan").args(["-p", port, "127.0.0.1"]).output().expect("ssh-keyscan starts");
        String::from_utf8(said.stdout).expect("text")
    }

    /// What its API answers to a `GET`.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, &Value::Null).await
    }

    /// What its API answers to a request of its person.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request =
            self.client.request(method, format!("{}/api/v1{path}", self.url)).basic_auth(USER, Some(PASSWORD));
        match (if body.is_null() { request } else { request.json(body) }).send().await {
            Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)),
            Err(error) => (0, json!(format!("{error:?}"))),
        }
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn client(certificate: &Path) -> reqwest::Client {
    let known =
        reqwest::Certificate::from_pem(&fs::read(certificate).expect("its certificate")).expect("a certificate");
    // The provider of TLS is installed with the first client.
    let _ = api::client();
    let builder = reqwest::Client::builder().tls_certs_only([known]).redirect(Policy::none()).no_proxy();
    builder.build().expect("a client")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who runs it.
fn user() -> (String, Option<u32>) {
    if is_root() { (NOBODY.0.to_owned(), Some(NOBODY.1)) } else { (env::var("USER").expect("a user's name"), None) }
}

fn give_away(path: &Path) {
    if let Some(id) = user().1 {
        std::os::unix::fs::chown(path, Some(id), Some(id)).expect("we are root");
    }
}

/// Puts the program into a folder that its user can read.
fn take_over(folder: &Path) {
    let built =
        PathBuf::from(env::var_os("BUILDIT_TEST_GITEA").expect("BUILDIT_TEST_GITEA, the folder of `./dev gitea`"));
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("permissions");
    let copied = Command::new("cp").arg("-r").arg(built).arg(folder.join("gitea")).status().expect("cp starts");
    assert!(copied.success(), "gitea is not copied");
    give_away(folder);
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(folder.join("gitea/gitea"));
    let (name, id) = user();
    command
        .args(arguments)
        .env_clear()
        .env("PATH", env::var_os("PATH").expect("a PATH"))
        .env("HOME", folder)
        .env("USER", name)
        .env("GITEA_WORK_DIR", folder)
        .env("GITEA_CUSTOM", folder)
        .current_dir(folder)
        .stdin(Stdio::null());
    if arguments[0] != "cert" {
        command.arg("--config").arg(folder.join("app.ini"));
    }
    if let Some(id) = id {
        command.uid(id).gid(id);
    }
    command
}

/// Carries out one of its commands and returns what it printed.
fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments).output().expect("gitea starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{arguments:?}: {} {}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

fn settings(folder: &Path, url: &str, http: u16, ssh: u16, database: &Url) -> String {
    let (folder, user) = (folder.display(), user().0);
    let (host, port) = (database.host_str().expect("a host"), database.port().expect("a port"));
    let (name, owner) = (database.path().trim_start_matches('/'), database.username());
    let password = database.password().unwrap_or_default();
    format!(
        "RUN_USER = {user}
RUN_MODE = prod
[server]
PROTOCOL = https
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {http}
ROOT_URL = {url}/
CERT_FILE = {folder}/cert.pem
KEY_FILE = {folder}/key.pem
STATIC_ROOT_PATH = {folder}/gitea
APP_DATA_PATH = {folder}/data
START_SSH_SERVER = true
SSH_DOMAIN = 127.0.0.1
SSH_LISTEN_HOST = 127.0.0.1
SSH_PORT = {ssh}
SSH_LISTEN_PORT = {ssh}
OFFLINE_MODE = true
[database]
DB_TYPE = postgres
HOST = {host}:{port}
NAME = {name}
USER = {owner}
PASSWD = {password}
SSL_MODE = disable
MAX_OPEN_CONNS = 10
[security]
INSTALL_LOCK = true
[webhook]
ALLOWED_HOST_LIST = *
[repository]
ROOT = {folder}/repositories
[indexer]
ISSUE_INDEXER_TYPE = db
[actions]
ENABLED = false
[log]
MODE = console
LEVEL = info
ROOT_PATH = {folder}/logs
[log.console]
STDERR = true
"
    )
}
