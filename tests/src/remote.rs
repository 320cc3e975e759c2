//! The commands that talk to a server, as their users start them, and an API process that can be killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};
use uuid::Uuid;

use crate::{
    PATIENCE, eventually,
    installation::{Installation, programs},
    ports,
};

/// An API process on a port of its own; killed when dropped.
#[derive(Debug)]
pub struct ApiProcess<'i> {
    /// Its address, without a slash at the end.
    pub url: String,
    installation: &'i Installation,
    process: Option<Child>,
    variables: Vec<(&'static str, String)>,
    log: PathBuf,
}

impl<'i> ApiProcess<'i> {
    /// Starts one and waits until it answers.
    pub async fn start(installation: &'i Installation) -> Self {
        Self::start_with(installation, async |_| Vec::new()).await
    }

    /// The same, with the variables that are made for its address.
    pub async fn start_with(
        installation: &'i Installation,
        variables: impl AsyncFnOnce(&str) -> Vec<(&'static str, String)>,
    ) -> Self {
        let port = ports::free();
        let url = format!("http://127.0.0.1:{port}");
        let log = installation.folder.path().join(format!("api-{port}.log"));
        let variables = variables(&url).await;
        let mut api = Self { url, installation, process: None, variables, log };
        api.restart().await;
        api
    }

    /// What it has logged since it was started last.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again, at the address it had, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        let mut serving = self.installation.serving("api");
        serving.args(["--listen", self.url.trim_start_matches("http://")]);
        serving.env("BUILDIT_PUBLIC_URL", &self.url).envs(self.variables.iter().map(|(name, value)| (name, value)));
        let process = serving.stderr(fs::File::create(&self.log).expect("a log file")).spawn();
        self.process = Some(process.expect("buildit starts"));
        let ready = format!("{}/readyz", self.url);
        let client = crate::api::client();
        eventually("the API answers", PATIENCE, async || {
            client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}

impl Drop for ApiProcess<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Somebody at a terminal, with a home of their own.
#[derive(Debug)]
pub struct User {
    /// What XDG_CONFIG_HOME names.
    pub config: PathBuf,
    /// The working directory.
    pub folder: PathBuf,
    /// BUILDIT_URL and BUILDIT_TOKEN, where they are set.
    pub variables: Vec<(&'static str, String)>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl Said {
    /// Its output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its output as JSON values, one a line.
    pub fn json_lines(&self) -> Vec<Value> {
        let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parsed).collect()
    }
}

impl User {
    /// Somebody who has not logged in.
    pub fn new(installation: &Installation) -> Self {
        let home = installation.folder.path().join(format!("home-{}", Uuid::new_v4()));
        fs::create_dir(&home).expect("a home");
        Self { config: home.join("config"), folder: home, variables: Vec::new() }
    }

    /// Somebody whose environment names the server and a key with all permissions.
    pub fn of(installation: &Installation) -> Self {
        Self::at(installation, &installation.url, &installation.key)
    }

    /// Somebody whose environment names this server and this key.
    pub fn at(installation: &Installation, url: &str, key: &str) -> Self {
        let variables = vec![("BUILDIT_URL", url.to_owned()), ("BUILDIT_TOKEN", key.to_owned())];
        Self { variables, ..Self::new(installation) }
    }

    /// The command, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(&programs().join("buildit"), arguments)
    }

    /// Another program in the same environment.
    pub fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("HOME", &self.folder)
            .env("XDG_CONFIG_HOME", &self.config)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs(self.variables.iter().cloned())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Carries out a command.
    pub async fn says(&self, arguments: &[&str]) -> Said {
        self.says_to(arguments, "").await
    }

    /// Carries out a command that reads this from standard input.
    pub async fn says_to(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("buildit starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may refuse without reading.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).expect("an end");
        Said {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a command whose output goes on.
    pub fn starts(&self, arguments: &[&str]) -> Going {
        let file = |name: &str| self.folder.join(format!("{name}-{}", Uuid::new_v4()));
        let (out, err) = (file("out"), file("err"));
        let create = |path: &Path| fs::File::create(path).expect("a file");
        let process = self.command(arguments).stdout(create(&out)).stderr(create(&err)).spawn();
        Going { process: process.expect("buildit starts"), out, err }
    }
}

/// A command that has not ended.
#[derive(Debug)]
pub struct Going {
    process: tokio::process::Child,
    out: PathBuf,
    err: PathBuf,
}

impl Going {
    /// What it has written to standard output.
    pub fn out(&self) -> Vec<u8> {
        fs::read(&self.out).expect("its output")
    }

    /// What it has written to standard error.
    pub fn err(&self) -> String {
        fs::read_to_string(&self.err).expect("its messages")
    }

    /// Waits until its output has that text.
    pub async fn until(&mut self, text: &str) {
        let begun = Instant::now();
        while !String::from_utf8_lossy(&self.out()).contains(text) {
            let ended = self.process.try_wait().expect("our process").is_some();
            let said = || format!("{}{}", String::from_utf8_lossy(&self.out()), self.err());
            assert!(!ended && begun.elapsed() < PATIENCE, "it does not say {text:?}: {}", said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = self.process.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("it is running");
        kill_process(pid, Signal::INT).expect("it is there");
    }

    /// Waits until it has ended; returns its exit code.
    pub async fn ended(&mut self) -> i32 {
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it does not end: {}", self.err()));
        ended.expect("an end").code().expect("an exit code")
    }
}
