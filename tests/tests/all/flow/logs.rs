//! A log while it is written and afterwards.

use std::time::{Duration, Instant};

use buildit_tests::{
    api::client,
    installation::{Installation, Project, Worker},
};
use reqwest::Response;
use serde_json::Value;

use super::{id, run_of, started, step};

/// Bytes of a log that are kept.
const LIMIT: usize = 200 << 20;

const TALK: &str = "
pipeline:
  steps:
    - { name: talk, image: debian, commands: ['for i in $(seq 40); do echo \"zeile äöü $i\"; sleep 0.03; done'] }
";

async fn begun(installation: &Installation, project: &Project) -> String {
    let run = installation.trigger(project).await;
    installation.until(&run, "the step runs", |run| run["steps"][0]["status"] == "running").await;
    run
}

async fn open(installation: &Installation, run: &str, query: &str) -> Response {
    let url = format!("{}/api/v1/runs/{run}/steps/talk/logs{query}", installation.url);
    let response = installation.send(|client| client.get(url)).await;
    assert_eq!(response.status(), 200);
    response
}

/// The text of all events, and the data of the last one.
fn parse(events: &str) -> (String, Value) {
    let (mut text, mut end) = (String::new(), Value::Null);
    for event in events.split("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let data = || serde_json::from_str::<Value>(field("data: ")).unwrap();
        match field("event: ") {
            "end" => end = data(),
            "" if event.contains("data: ") => {
                let data = data();
                assert_eq!(data["offset"].as_u64().unwrap() as usize, text.len(), "offsets count bytes");
                text.push_str(data["text"].as_str().unwrap());
            }
            _ => {}
        }
    }
    (text, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_log_and_the_stored_one_are_the_same_bytes() {
    let (installation, _worker) = started().await;
    let project = installation.project("live", &[(".platform.yaml", TALK)]).await;
    let run = begun(&installation, &project).await;
    let live = open(&installation, &run, "").await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let curl = open(&installation, &run, "?follow=true").await;
    assert!(curl.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    // Both answers end with the step.
    let (live, curl) = tokio::join!(live.text(), curl.text());
    let (text, end) = parse(&live.unwrap());
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let stored = installation.log(id(&run), "talk").await;
    assert!(stored.contains("zeile äöü 40\n"));
    assert_eq!(text, stored, "as events");
    assert_eq!(curl.unwrap(), stored, "as text");
    assert_eq!(end["status"], "success");
    // What has ended is a redirect to the object, which needs no key.
    let url = format!("{}/api/v1/runs/{}/steps/talk/logs", installation.url, id(&run));
    let response = installation.send(|client| client.get(url)).await;
    assert_eq!(response.status(), 307);
    let object = response.headers()["location"].to_str().unwrap();
    assert_eq!(client().get(object).send().await.unwrap().text().await.unwrap(), stored);
    assert_eq!(step(&run, "talk")["attempts"][0]["log_length"].as_u64().unwrap() as usize, stored.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_seen_soon_after_it_is_written() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: talk, image: debian, commands: ['for i in $(seq 40); do echo \"at $(date +%s%N)\"; sleep 0.05; done'] }
";
    let project = installation.project("soon", &[(".platform.yaml", file)]).await;
    let run = begun(&installation, &project).await;
    let mut live = open(&installation, &run, "").await;
    let mut took = Vec::new();
    while let Some(piece) = live.chunk().await.unwrap() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let text = String::from_utf8_lossy(&piece).into_owned();
        let stamps = text.split("at ").skip(1).filter_map(|rest| rest.get(..19)?.parse::<u64>().ok());
        took.extend(stamps.map(|at| now.saturating_sub(Duration::from_nanos(at)).as_millis()));
    }
    took.sort_unstable();
    let (p50, max) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{} lines seen live, after p50 {p50} ms, max {max} ms", took.len());
    assert!(p50 < 100, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enormous_log_loses_nothing_up_to_its_limit_and_costs_the_worker_no_memory() {
    let (installation, worker) = started().await;
    let file = "
pipeline:
  steps:
    - name: talk
      image: debian
      commands:
        - head -c 1000000 /dev/zero | tr '\\0' x; echo
        - yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 215000000
        - echo unheard
";
    let begun = Instant::now();
    let (_, run) = run_of(&installation, "enormous", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let took = begun.elapsed();
    let peak = peak_memory(&worker);
    println!(
        "a log of 215 MB: {:.1} s from the trigger to the end; the worker's peak is {peak} MB",
        took.as_secs_f64()
    );
    let log = installation.storage.get(&format!("logs/pipelines/{}/talk.log", id(&run))).await.unwrap();
    let line = b"0123456789abcdefghijklmnopqrstuvwxyz\n";
    let begin = log.windows(line.len()).position(|window| window == line).unwrap();
    let (written, marker) = log[begin..].split_at(LIMIT - begin);
    assert!(written.chunks(line.len()).all(|part| line.starts_with(part)), "every byte is there");
    let marker = String::from_utf8_lossy(marker);
    let note = run["notes"][0].as_str().unwrap_or_default();
    assert!(note.contains("`talk`") && note.contains("longer than its limit"), "the run says so: {run:#}");
    assert!(marker.starts_with("\n[buildit] The log has reached its limit of 209715200 bytes"), "{marker}");
    let long = log.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap();
    assert_eq!(long, 1_000_000, "the line of a million characters is whole");
    assert!(peak < 100, "{peak} MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_how_much_of_a_log_is_kept() {
    let installation = Installation::start().await;
    let _worker = installation.worker_with(&[("BUILDIT_LOG_LIMIT_MIB", "1")]);
    let file = "
pipeline:
  steps:
    - { name: talk, image: debian, commands: ['yes 0123456789 | head -c 2000000', 'true'] }
";
    let (_, run) = run_of(&installation, "bounded", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let log = installation.log(id(&run), "talk").await;
    let marker = &log[1 << 20..];
    assert_eq!(marker, "\n[buildit] The log has reached its limit of 1048576 bytes; the rest is dropped.\n");
    let note = run["notes"][0].as_str().unwrap_or_default();
    assert!(note.contains("`talk`") && note.contains("longer than its limit of 1048576 bytes"), "{run:#}");
}

fn peak_memory(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
}
