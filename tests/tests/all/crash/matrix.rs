//! The kill matrix: a worker process dies at each place where it can, before and after each effect on the outside.

use std::{collections::BTreeSet, fs, path::Path, time::Instant};

use buildit_tests::{installation::Installation, places};
use futures::StreamExt;
use serde_json::json;

use super::scenario;

#[test]
fn the_matrix_names_every_place_in_the_sources() {
    let mut named = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let calls = source.split("crash_point!(\"").skip(1);
            named.extend(calls.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    let all = [
        &places::ALWAYS[..],
        &places::LAST,
        &places::CANCEL,
        &places::LOCAL,
        &places::AHEAD,
        &places::DOCKER,
        &places::KUBERNETES,
        &places::WEBHOOK,
        &places::STATUS,
    ]
    .concat();
    let listed = all.into_iter().map(str::to_owned).collect();
    assert_eq!(named, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_as_if_nothing_had_happened_wherever_its_worker_dies() {
    let places = places::ALWAYS.iter().chain(&places::LOCAL).chain(&places::LAST).enumerate();
    // Most of the time is waiting until the dead are certain to be dead, so several die at once; each on a database of its
    // own, since a worker claims whatever is there.
    let outcomes = futures::stream::iter(places.map(|(n, place)| die_at(n, place))).buffer_unordered(4);
    let seconds: Vec<f64> = outcomes.collect().await;
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    println!("{} places; from the death to the end of the run at most {longest:.1} s", seconds.len());
}

/// Seconds from the death to the end of the run.
async fn die_at(n: usize, place: &str) -> f64 {
    let installation = Installation::start().await;
    let project = scenario::project(&installation, &format!("matrix-{n}")).await;
    let first = installation.worker_that_dies_at(place);
    let run = installation.trigger(&project).await;
    first.killed().await;
    let died = Instant::now();
    let _second = installation.worker();
    let run = installation.ended(&run).await;
    scenario::check(&installation, &project, &run).await;
    let left: i64 = sqlx::query_scalar("select count(*) from jobs").fetch_one(&installation.pool).await.unwrap();
    assert_eq!(left, 0, "{place}: no job is left");
    println!("died at `{place}`: the run ended after {:.1} s", died.elapsed().as_secs_f64());
    died.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_step_is_stopped_wherever_its_worker_dies() {
    for (n, place) in places::CANCEL.iter().enumerate() {
        let installation = Installation::start().await;
        // It takes its time to end: otherwise that could be known before the worker's stop has returned, which is to die then.
        let file = "
pipeline:
  steps:
    - { name: long, image: debian, commands: [echo begun, 'trap \"sleep 3; exit 1\" TERM; sleep 300; echo survived'] }
    - { name: never, image: debian, commands: [echo no] }
";
        let project = installation.project(&format!("cancel-{n}"), &[(".platform.yaml", file)]).await;
        let first = installation.worker_that_dies_at(place);
        let run = installation.trigger(&project).await;
        installation
            .until(&run, "the step begins", |run| {
                run["steps"][0]["attempts"][0]["log_length"] != 0 && run["steps"][0]["status"] == "running"
            })
            .await;
        let (status, _) = installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
        assert_eq!(status, 202);
        first.killed().await;
        let _second = installation.worker();
        let run = installation.ended(&run).await;
        assert_eq!(run["status"], "cancelled", "{place}: {run:#}");
        assert_eq!(run["steps"][0]["status"], "cancelled", "{place}: {run:#}");
        let log = installation.log(run["id"].as_str().unwrap(), "long").await;
        assert!(log.contains("begun") && !log.contains("\nsurvived"), "{place}: the log is kept: {log}");
    }
}
