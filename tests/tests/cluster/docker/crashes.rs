//! Workers that die or freeze, containers that vanish, engines that are away.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use buildit_tests::{PATIENCE, eventually, installation::Worker};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    engine::{BUSYBOX, containers_of, docker, host, remove},
    fleet::{Counter, Fleet, attempts, id, step},
    proxy::Proxy,
};

async fn stored(fleet: &Fleet) -> i64 {
    let query = "select coalesce(max(log_len), 0) from step_attempts";
    sqlx::query_scalar(query).fetch_one(&fleet.installation.pool).await.unwrap()
}

/// A step that counts for ten seconds, and one after it.
const COUNTS: &str = "
pipeline:
  steps:
    - name: count
      image: buildit.test/busybox:1
      commands: ['i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.05; done']
    - { name: after, image: buildit.test/busybox:1, commands: [echo done] }
";

/// Checks that it went as if nothing had happened.
async fn check_count(fleet: &Fleet, run: &serde_json::Value, worker: &Worker) {
    assert_eq!(run["status"], "success", "{run:#}; {}", worker.said());
    assert_eq!(attempts(run, "count").len(), 1, "{run:#}");
    let log = fleet.installation.log(id(run), "count").await;
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=200).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected);
    fleet.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_container_goes_on_and_is_adopted_with_its_log_whole() {
    let fleet = Fleet::start().await;
    let first = fleet.worker();
    let run = fleet.trigger(COUNTS).await;
    eventually("its log is followed", PATIENCE, async || stored(&fleet).await > 100).await;
    let second = fleet.worker();
    first.kill();
    let before = stored(&fleet).await;
    eventually("the log goes on", PATIENCE, async || stored(&fleet).await > before).await;
    let run = fleet.installation.ended(&run).await;
    check_count(&fleet, &run, &second).await;
}

/// Two steps, the second of which needs the first one's output, that tell the counter.
fn counted(counter: &Counter) -> String {
    let count = counter.command();
    format!(
        "
pipeline:
  steps:
    - {{ name: one, image: '{BUSYBOX}', commands: ['{count}', echo once > once.txt, sleep 1], outputs: [once.txt] }}
    - {{ name: two, image: '{BUSYBOX}', commands: ['{count}', cat once.txt] }}
"
    )
}

async fn check_counted(fleet: &Fleet, counter: &Counter, run: &serde_json::Value, place: &str) {
    assert_eq!(run["status"], "success", "{place}: {run:#}");
    for name in ["one", "two"] {
        assert_eq!(attempts(run, name).len(), 1, "{place}: {run:#}");
        assert_eq!(counter.counted().get(name), Some(&1), "{place}: its commands ran once");
    }
    assert!(fleet.installation.log(id(run), "two").await.contains("\nonce\n"), "{place}");
}

const PLACES: [&str; 7] = [
    "step: claimed",
    "step: before its runner starts",
    "step: container made",
    "step: started",
    "step: log followed to its end",
    "step: log stored",
    "step: end committed",
];

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_dies_each_command_runs_once() {
    // Most of the time is waiting until the dead are certain to be dead.
    futures::future::join_all(PLACES.map(|place| async move {
        let (fleet, counter) = (Fleet::start().await, Counter::start());
        let dies = fleet.worker_that_ends_at(place, "KILL");
        let run = fleet.trigger(&counted(&counter)).await;
        dies.killed().await;
        let _next = fleet.worker();
        let run = fleet.installation.ended(&run).await;
        check_counted(&fleet, &counter, &run, place).await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_freezes_another_ends_its_run_and_nothing_runs_twice_when_it_thaws() {
    let fleets = futures::future::join_all(PLACES.map(|place| async move {
        let (fleet, counter) = (Fleet::start().await, Counter::start());
        let zombie = fleet.worker_that_ends_at(place, "STOP");
        let run = fleet.trigger(&counted(&counter)).await;
        zombie.frozen().await;
        let next = fleet.worker();
        let run = fleet.installation.ended(&run).await;
        check_counted(&fleet, &counter, &run, place).await;
        (place, fleet, counter, zombie, next, run)
    }));
    for (place, fleet, counter, zombie, next, run) in fleets.await {
        zombie.signal(Signal::CONT);
        fleet.installation.rejoined(&zombie).await;
        assert_eq!(fleet.installation.run(id(&run)).await, run, "{place}: the run is as it was");
        // What it had in hand comes to nothing, and whatever container it made ends by itself.
        eventually("no container runs", PATIENCE, async || {
            let left = containers_of(&fleet.folder());
            left.iter().all(|name| docker(&["inspect", "--format", "{{.State.Running}}", name]) == "false")
        })
        .await;
        check_counted(&fleet, &counter, &run, place).await;
        drop(next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_removed_by_hand_is_a_lost_attempt_and_the_step_gets_another() {
    let fleet = Fleet::start().await;
    let _worker = fleet.worker();
    let file =
        format!("pipeline:\n  steps:\n    - {{ name: one, image: '{BUSYBOX}', commands: [echo begun, sleep 8] }}\n");
    let run = fleet.trigger(&file).await;
    eventually("its log is followed", PATIENCE, async || stored(&fleet).await > 10).await;
    let running = fleet.installation.run(&run).await;
    let attempt = attempts(&running, "one")[0]["id"].as_str().unwrap().to_owned();
    remove(&[&attempt]);
    let run = fleet.installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let attempts = attempts(&run, "one");
    assert_eq!(attempts.len(), 2, "{run:#}");
    assert_eq!(attempts[0]["status"], "lost");
    assert!(attempts[0]["reason"].as_str().unwrap().contains("removed"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_away_delays_runs_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::to_engine(folder.path().join("docker.sock"));
    let fleet = Fleet::on(proxy.host(), "bridge").await;
    let worker = fleet.worker();
    let run = fleet.trigger(COUNTS).await;
    eventually("its log is followed", PATIENCE, async || stored(&fleet).await > 100).await;
    proxy.cut();
    let before = stored(&fleet).await;
    eventually("the log goes on meanwhile", PATIENCE, async || stored(&fleet).await > before + 500).await;
    let waits = |run: &serde_json::Value| {
        attempts(run, "count").iter().any(|attempt| attempt["reason"].as_str().is_some_and(|why| why.contains("waits")))
    };
    fleet.installation.until(&run, "it has ended, and its readers are told what is waited for", waits).await;
    proxy.mend();
    let run = fleet.installation.ended(&run).await;
    check_count(&fleet, &run, &worker).await;
}

/// An engine of a test's own, without a network.
struct OwnEngine {
    folder: TempDir,
    process: Child,
}

impl OwnEngine {
    async fn start() -> Self {
        // On the same file system as the images of the cluster's, which can hold layers.
        let beside = PathBuf::from(host().trim_start_matches("unix://"));
        let folder = tempfile::Builder::new().prefix("engine-").tempdir_in(beside.parent().unwrap()).unwrap();
        let process = Self::spawn(&folder);
        let engine = Self { folder, process };
        engine.answers().await;
        let image = engine.folder.path().join("image.tar");
        docker(&["save", "--output", &image.to_string_lossy(), BUSYBOX]);
        assert!(engine.docker(&["load", "--input", &image.to_string_lossy()]));
        engine
    }

    fn spawn(folder: &TempDir) -> Child {
        let at = |name: &str| folder.path().join(name).display().to_string();
        Command::new("dockerd")
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--host", &format!("unix://{}", at("docker.sock")), "--bridge", "none", "--iptables=false"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/buildit/own-engine"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap()
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    fn docker(&self, arguments: &[&str]) -> bool {
        Command::new("docker").arg("--host").arg(self.host()).args(arguments).output().unwrap().status.success()
    }

    async fn answers(&self) {
        eventually("the engine answers", PATIENCE, async || self.docker(&["version"])).await;
    }

    /// As `systemctl stop` does: its containers are stopped, too.
    async fn stop(&mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        eventually("the engine stops", PATIENCE, async || self.process.try_wait().unwrap().is_some()).await;
    }

    async fn restart(&mut self) {
        self.process = Self::spawn(&self.folder);
        self.answers().await;
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_step_of_an_engine_that_was_stopped_gets_a_new_attempt_once_it_is_back() {
    let mut engine = OwnEngine::start().await;
    let fleet = Fleet::on(engine.host(), "none").await;
    let _worker = fleet.worker();
    let file =
        format!("pipeline:\n  steps:\n    - {{ name: one, image: '{BUSYBOX}', commands: [echo begun, sleep 5] }}\n");
    let run = fleet.trigger(&file).await;
    eventually("its log is followed", PATIENCE, async || stored(&fleet).await > 10).await;
    engine.stop().await;
    let told = |run: &serde_json::Value| {
        let said = attempts(run, "one").last().and_then(|attempt| attempt["reason"].as_str());
        said.is_some_and(|said| said.contains("waits"))
    };
    fleet.installation.until(&run, "its readers are told", told).await;
    engine.restart().await;
    let run = fleet.installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(attempts(&run, "one").len(), 2, "{run:#}");
    assert_eq!(attempts(&run, "one")[0]["status"], "lost", "{run:#}");
    assert_eq!(step(&run, "one")["status"], "success");
}
