//! What a worker tells of itself: `/healthz`, `/readyz` and `/metrics` on a socket of its own.

use std::time::Duration;

use buildit_tests::{
    eventually,
    installation::{Installation, Worker},
};
use rustix::process::Signal;

use super::run_of;

const LIMIT: Duration = Duration::from_secs(60);

/// Its address, once it has said it.
async fn address(worker: &Worker) -> String {
    let said = || {
        let log = worker.said();
        let rest = log.split_once("/metrics at ")?.1;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    eventually("the worker says its address", LIMIT, async || said().is_some()).await;
    said().unwrap()
}

async fn ask(address: &str, path: &str) -> (u16, String) {
    match reqwest::get(format!("{address}{path}")).await {
        Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
        Err(_) => (0, String::new()),
    }
}

async fn until(address: &str, path: &str, status: u16) -> String {
    eventually(&format!("{path} answers {status}"), LIMIT, async || ask(address, path).await.0 == status).await;
    ask(address, path).await.1
}

/// The value of the one line of the figures that begins so.
fn figure(text: &str, series: &str) -> f64 {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
    values.next().unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

const FILE: &str = "
pipeline:
  steps:
    - { name: speak, image: debian, commands: [echo 0123456789] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_counts_the_jobs_it_ended() {
    let installation = Installation::start().await;
    let worker = installation.worker_with(&[("BUILDIT_WORKER_LISTEN", "127.0.0.1:0")]);
    let address = address(&worker).await;
    let (_, run) = run_of(&installation, "speaking", FILE).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(ask(&address, "/healthz").await.0, 200);
    assert_eq!(ask(&address, "/readyz").await.0, 200);
    let ended = |kind| format!("buildit_jobs_ended_total{{kind=\"{kind}\",end=\"succeeded\"}}");
    // It counts once the commit that ends the job has been answered, which may be after the run's readers heard of it.
    eventually("the last job is counted", LIMIT, async || {
        ask(&address, "/metrics").await.1.contains(&ended("UploadArtifacts"))
    })
    .await;
    let (_, text) = ask(&address, "/metrics").await;
    for kind in ["RunPipeline", "RunStep", "UploadArtifacts"] {
        assert_eq!(figure(&text, &ended(kind)), 1.0, "{text}");
        assert_eq!(figure(&text, &format!("buildit_job_seconds_count{{kind=\"{kind}\"}}")), 1.0, "{text}");
    }
    assert!(figure(&text, "buildit_claim_seconds_count") >= 1.0, "{text}");
    assert!(figure(&text, "buildit_log_bytes_total") >= 11.0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_its_database_lives_but_is_not_ready() {
    let mut installation = Installation::with_own_server().await;
    let worker = installation.worker_with(&[("BUILDIT_WORKER_LISTEN", "127.0.0.1:0")]);
    let address = address(&worker).await;
    until(&address, "/readyz", 200).await;
    installation.server().stop().await.unwrap();
    let said = until(&address, "/readyz", 503).await;
    assert!(said.contains("does the database answer?"), "{said}");
    assert_eq!(ask(&address, "/healthz").await.0, 200);
    installation.server().restart(&|_| {}).await.unwrap();
    until(&address, "/readyz", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_on_one_machine_that_were_told_nothing_each_have_a_port() {
    let installation = Installation::start().await;
    let (first, second) = (installation.worker(), installation.worker());
    let addresses = [address(&first).await, address(&second).await];
    assert_ne!(addresses[0], addresses[1]);
    for address in &addresses {
        until(address, "/readyz", 200).await;
    }
    first.signal(Signal::TERM);
    assert!(first.ended().await.success(), "{}", first.said());
    assert_eq!(ask(&addresses[1], "/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_address_is_taken_says_what_to_do() {
    let installation = Installation::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let worker = installation.worker_with(&[("BUILDIT_WORKER_LISTEN", &address)]);
    assert!(!worker.ended().await.success());
    let said = worker.said();
    for part in [address.as_str(), "is another worker there?", "--listen", "BUILDIT_WORKER_LISTEN", "`off`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_can_do_without() {
    let installation = Installation::start().await;
    let worker = installation.worker_with(&[("BUILDIT_WORKER_LISTEN", "off")]);
    let (_, run) = run_of(&installation, "speaking", FILE).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert!(!worker.said().contains("/metrics"), "{}", worker.said());
}
