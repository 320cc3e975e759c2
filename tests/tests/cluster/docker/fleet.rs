//! An installation whose steps are containers.

use std::{
    collections::BTreeMap,
    io::Read,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use buildit_tests::installation::{Installation, Worker};
use serde_json::Value;

use super::engine::{containers_of, host, remove_containers_of, variable};

pub(super) struct Fleet {
    pub(super) installation: Installation,
    host: String,
    network: &'static str,
}

impl Fleet {
    pub(super) async fn start() -> Self {
        Self::on(host(), "bridge").await
    }

    /// One whose workers reach their engine there, and whose steps are in that network of it.
    pub(super) async fn on(host: String, network: &'static str) -> Self {
        Self { installation: Installation::start().await, host, network }
    }

    pub(super) fn worker(&self) -> Worker {
        self.worker_with(&[])
    }

    pub(super) fn worker_with(&self, more: &[(&str, &str)]) -> Worker {
        let programs = variable("BUILDIT_TEST_POD_PROGRAMS");
        let ours = [
            ("BUILDIT_EXECUTOR", "docker"),
            ("BUILDIT_DOCKER_HOST", &self.host),
            ("BUILDIT_DOCKER_RUNNER", &programs),
            ("BUILDIT_DOCKER_NETWORK", self.network),
        ];
        self.installation.worker_with(&[&ours, more].concat())
    }

    /// Starts a worker that dies, or freezes, at the named place.
    pub(super) fn worker_that_ends_at(&self, place: &str, by: &str) -> Worker {
        let once = self.installation.folder.path().join("ended");
        self.worker_with(&[
            ("TEST_CRASH_AT", place),
            ("TEST_CRASH_ONCE", &once.to_string_lossy()),
            ("TEST_CRASH_BY", by),
        ])
    }

    /// Starts a run of a project's first commit, which holds just this pipeline file.
    pub(super) async fn trigger(&self, file: &str) -> String {
        let project = self.installation.project("web", &[(".platform.yaml", file)]).await;
        self.installation.trigger(&project).await
    }

    /// The ended run of it.
    pub(super) async fn run_of(&self, file: &str) -> Value {
        let run = self.trigger(file).await;
        self.installation.ended(&run).await
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.installation.folder.path().join("containers")
    }

    /// Waits until no container is left.
    pub(super) async fn is_empty(&self) {
        buildit_tests::eventually("no container is left", buildit_tests::PATIENCE, async || {
            containers_of(&self.folder()).is_empty()
        })
        .await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        remove_containers_of(&self.folder());
    }
}

pub(super) fn id(run: &Value) -> &str {
    run["id"].as_str().unwrap()
}

/// The step; `Null` before the run is planned.
pub(super) fn step<'a>(run: &'a Value, name: &str) -> &'a Value {
    let steps = run["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap_or(&Value::Null)
}

pub(super) fn attempts<'a>(run: &'a Value, name: &str) -> &'a [Value] {
    step(run, name)["attempts"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Counts who calls, by the word that they say: commands in containers leave no other trace that outlives these.
pub(super) struct Counter {
    address: SocketAddr,
    counted: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Counter {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((variable("BUILDIT_TEST_HOST"), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let counted = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let count = Arc::clone(&counted);
        std::thread::spawn(move || {
            for mut caller in listener.incoming().flatten() {
                let mut word = String::new();
                if caller.read_to_string(&mut word).is_ok() {
                    *count.lock().unwrap().entry(word.trim().to_owned()).or_default() += 1;
                }
            }
        });
        Self { address, counted }
    }

    /// The command that is counted under the step's name.
    pub(super) fn command(&self) -> String {
        format!("echo $STEP_NAME | nc -w 5 {} {}", self.address.ip(), self.address.port())
    }

    pub(super) fn counted(&self) -> BTreeMap<String, usize> {
        self.counted.lock().unwrap().clone()
    }
}
