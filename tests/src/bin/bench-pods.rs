//! How long steps take as pods, beside bare pods on the same cluster at the same time: `./dev bench pods`.
//!
//! Prints one JSON object a line: the bare pods, the runs, and where the milliseconds of their steps went. Usage:
//! `bench-pods [ONE [SEQUENCE [AT-ONCE [KILLS [SLOTS]]]]]`, by default 10 single ones, 10 in sequence, 100 at once, 20 workers
//! killed in the middle of a step, and workers that drive 100 steps at once.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use buildit_tests::{
    cluster::Cluster,
    installation::{Installation, Project, Worker},
};
use futures::{StreamExt, TryStreamExt, future::join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

const IMAGE: &str = "buildit.test/busybox:1";
type Variables<'v> = [(&'v str, &'v str)];

/// The kubelet removes what deleted pods have left once a minute: neither side is to pay for the other's.
const LEFT: Duration = Duration::from_secs(65);

const AHEAD: [(&str, &str); 1] = [("BUILDIT_KUBERNETES_AHEAD_OF_A_RUN", "3")];

#[tokio::main]
async fn main() {
    let mut sizes = std::env::args().skip(1).map(|size| size.parse::<usize>().expect("a number"));
    let mut size = |default: usize| sizes.next().unwrap_or(default);
    let (one, sequence, at_once, kills) = (size(10), size(10), size(100), size(20));
    let slots = size(100).to_string();
    let slots = [
        ("BUILDIT_STEP_SLOTS", &*slots),
        ("BUILDIT_PIPELINE_SLOTS", "20"),
        ("BUILDIT_ARTIFACT_SLOTS", "20"),
        // As the bare pods: by the default a small node would have room for a few at once only.
        ("BUILDIT_KUBERNETES_DEFAULT_CPU_MILLIS", "10"),
    ];
    let installation = Installation::on_cluster().await;
    let worker = installation.worker_with(&slots);
    let single = project(&installation, "single", 1).await;
    let chain = project(&installation, "chain", sequence).await;
    let cluster = installation.cluster();

    // What is only slow the first time: the image, the runner's ConfigMaps, the project's mirror, and with some runs at once the
    // worker's connections and the statements that each of them prepares.
    bare_one_by_one(cluster, 1).await;
    runs(&installation, &single, 1).await;
    runs(&installation, &single, at_once.min(20)).await;

    print("bare pod", &spread(bare_one_by_one(cluster, one).await));
    let since = now(&installation).await;
    let mut ends = Vec::new();
    for _ in 0..one {
        ends.extend(runs(&installation, &single, 1).await.1);
    }
    print("run of one step", &spread(ends));
    report_phases(&installation, "its median milliseconds", since).await;

    let begun = Instant::now();
    bare_one_by_one(cluster, sequence).await;
    print("bare pods in sequence", &json!({ "n": sequence, "secs": begun.elapsed().as_secs_f64() }));
    let since = now(&installation).await;
    let (secs, _) = runs(&installation, &chain, 1).await;
    print("run of steps in sequence", &json!({ "n": sequence, "secs": secs }));
    report_phases(&installation, "its median milliseconds", since).await;

    tokio::time::sleep(LEFT).await;
    let before = requests(cluster).await;
    let bare = bare_at_once(cluster, at_once).await;
    let between = requests(cluster).await;
    let rate = |secs: f64| at_once as f64 / secs;
    print(
        "bare pods at once",
        &json!({ "n": at_once, "secs": bare, "per_s": rate(bare), "requests_per_pod": (between - before) / at_once as f64 }),
    );
    tokio::time::sleep(LEFT).await;
    let quiet = requests(cluster).await;
    let since = now(&installation).await;
    let (secs, ends) = runs(&installation, &single, at_once).await;
    let after = requests(cluster).await;
    print(
        "runs at once",
        &json!({ "n": at_once, "secs": secs, "per_s": rate(secs), "of_bare": bare / secs,
                 "requests_per_step": (after - quiet) / at_once as f64, "worker_peak_mb": peak_mb(&worker), "ends": spread(ends) }),
    );
    report_phases(&installation, "its median milliseconds", since).await;

    print("kill -9 to the adopted step's next line", &spread(recoveries(&installation, worker, kills, &slots).await));

    let _worker = installation.worker_with(&[&slots[..], &AHEAD].concat());
    let (secs, _) = runs(&installation, &chain, 1).await;
    print("run of steps in sequence, with pods ahead", &json!({ "n": sequence, "ahead": AHEAD[0].1, "secs": secs }));
}

fn print(what: &str, result: &Value) {
    println!("{}", json!({ "what": what, "result": result }));
}

/// Seconds: the least, the middle one, that which one in a hundred exceeds, the greatest.
fn spread(mut secs: Vec<f64>) -> Value {
    secs.sort_by(f64::total_cmp);
    let (p50, p99) = (secs.get(secs.len() / 2), secs.get(secs.len() * 99 / 100));
    json!({ "n": secs.len(), "min": secs.first(), "p50": p50, "p99": p99, "max": secs.last() })
}

/// Kills the worker of one step again and again; seconds until a line is stored that was not there before.
async fn recoveries(installation: &Installation, first: Worker, kills: usize, slots: &Variables<'_>) -> Vec<f64> {
    let steps =
        format!("    - {{ name: talks, image: {IMAGE}, commands: ['while :; do echo more; sleep 0.03; done'] }}\n");
    let project = installation.project("talks", &[(".platform.yaml", &format!("pipeline:\n  steps:\n{steps}"))]).await;
    let run = installation.trigger(&project).await;
    let mut workers = vec![first, installation.worker_with(slots)];
    let stored = async || {
        let length = "select coalesce(max(log_len), 0) from step_attempts where run_id = $1::uuid";
        sqlx::query_scalar::<_, i64>(length).bind(&run).fetch_one(&installation.pool).await.expect("an answer")
    };
    let until_more = async |than: i64| {
        while stored().await <= than {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until_more(1000).await;
    let mut secs = Vec::new();
    for _ in 0..kills {
        let (owner, alive) = (
            "select w.pid from jobs j join workers w on w.id = j.worker_id where j.run_id = $1::uuid and j.kind = 'RunStep'",
            "select count(*) from workers where state = 'alive'",
        );
        while sqlx::query_scalar::<_, i64>(alive).fetch_one(&installation.pool).await.expect("an answer") < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let owner: i32 = sqlx::query_scalar(owner).bind(&run).fetch_one(&installation.pool).await.expect("an owner");
        let owner = workers.iter().position(|worker| i64::from(worker.pid()) == i64::from(owner)).expect("one of ours");
        let killed = Instant::now();
        workers.swap_remove(owner).kill();
        // What it stored with its last breath is not the next worker's.
        tokio::time::sleep(Duration::from_millis(100)).await;
        until_more(stored().await).await;
        secs.push(killed.elapsed().as_secs_f64());
        workers.push(installation.worker_with(slots));
    }
    installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
    installation.ended(&run).await;
    secs
}

async fn project(installation: &Installation, name: &str, steps: usize) -> Project {
    let steps: String =
        (0..steps).map(|step| format!("    - {{ name: s{step}, image: {IMAGE}, commands: ['true'] }}\n")).collect();
    installation.project(name, &[(".platform.yaml", &format!("pipeline:\n  steps:\n{steps}"))]).await
}

/// Starts so many runs at once; seconds until all have ended, and of each from its creation to the known end of its last step.
async fn runs(installation: &Installation, project: &Project, n: usize) -> (f64, Vec<f64>) {
    let begun = Instant::now();
    let ids = join_all((0..n).map(|_| installation.trigger(project))).await;
    let left = "select count(*) from pipeline_runs where finished_at is null";
    while sqlx::query_scalar::<_, i64>(left).fetch_one(&installation.pool).await.expect("an answer") > 0 {
        // Seldom, since looking takes from what is measured.
        tokio::time::sleep(Duration::from_millis(if n > 1 { 100 } else { 5 })).await;
    }
    let secs = begun.elapsed().as_secs_f64();
    let mut ends = Vec::new();
    for id in ids {
        let run = installation.run(&id).await;
        assert_eq!(run["status"], "success", "{run:#}");
        let end = "select extract(epoch from max(s.finished_at) - r.created_at)::float8
                   from pipeline_runs r join pipeline_steps s on s.run_id = r.id where r.id = $1::uuid group by r.created_at";
        ends.push(sqlx::query_scalar(end).bind(id).fetch_one(&installation.pool).await.expect("an answer"));
    }
    (secs, ends)
}

/// The database's clock, in seconds.
async fn now(installation: &Installation) -> f64 {
    let now = sqlx::query_scalar("select extract(epoch from clock_timestamp())::float8").fetch_one(&installation.pool);
    now.await.expect("an answer")
}

/// Where the time of the attempts went that were made since `since`: the median of each phase in milliseconds.
async fn report_phases(installation: &Installation, what: &str, since: f64) {
    let phases = "
        with t as (
            select a.created_at as made, a.started_at as start, a.finished_at as known,
                   to_timestamp((a.report ->> 'started_at_ms')::float8 / 1000) as runner,
                   to_timestamp((a.report ->> 'first_command_at_ms')::float8 / 1000) as command,
                   to_timestamp((a.report ->> 'ended_at_ms')::float8 / 1000) as reported
            from step_attempts a where a.created_at >= to_timestamp($1)
        ), ms as (
            select phase, extract(epoch from length) * 1000 as ms
            from t, lateral (values
                ('1 enqueued to claimed and planned', start - made),
                ('2 to the start of its runner (created, scheduled, container started)', runner - start),
                ('3 to the first command (begin, checkout)', command - runner),
                ('4 to all stored (commands, log, outputs)', reported - command),
                ('5 to the end committed', known - reported)) as p (phase, length)
        )
        select jsonb_object_agg(phase, median) from (
            select phase, round(percentile_cont(0.5) within group (order by ms)) as median from ms group by phase) medians";
    let medians = sqlx::query_scalar::<_, Value>(phases).bind(since).fetch_one(&installation.pool).await;
    print(what, &medians.expect("an answer"));
}

/// Makes pods one after another; seconds from each one's creation to the news of its end.
async fn bare_one_by_one(cluster: &Cluster, n: usize) -> Vec<f64> {
    let mut secs = Vec::new();
    for _ in 0..n {
        secs.push(bare_at_once(cluster, 1).await);
    }
    secs
}

/// Makes so many pods at once; seconds until the end of the last one is known.
async fn bare_at_once(cluster: &Cluster, n: usize) -> f64 {
    let pods: Api<Pod> = cluster.pods();
    let label = uuid::Uuid::new_v4().to_string();
    let selector = format!("bench={label}");
    let config = watcher::Config::default().labels(&selector);
    let mut changes = watcher(pods.clone(), config).applied_objects().boxed();
    let begun = Instant::now();
    let make = (0..n).map(|_| {
        let (pods, label) = (pods.clone(), label.clone());
        async move {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "generateName": "bare-", "labels": { "bench": label } },
                "spec": { "restartPolicy": "Never", "automountServiceAccountToken": false, "containers": [
                    { "name": "step", "image": IMAGE, "command": ["true"],
                      "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } } }] }
            }))
            .expect("a pod");
            pods.create(&PostParams::default(), &pod).await.expect("the pod is made");
        }
    });
    let ended = async {
        let mut ended = HashMap::new();
        while ended.len() < n {
            let pod = changes.try_next().await.expect("a watch").expect("a change");
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            if phase == "Succeeded" {
                ended.insert(pod.metadata.name.clone(), ());
                let (pods, name) = (pods.clone(), pod.metadata.name.unwrap_or_default());
                tokio::spawn(async move { pods.delete(&name, &DeleteParams::default()).await.map(drop) });
            }
        }
    };
    futures::join!(join_all(make), ended);
    let secs = begun.elapsed().as_secs_f64();
    while !pods.list(&ListParams::default().labels(&selector)).await.expect("a list").items.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    secs
}

/// Requests that the cluster's API has answered, the kubelet's and the controllers' included.
async fn requests(cluster: &Cluster) -> f64 {
    let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
    let text = cluster.client.request_text(request).await.expect("the cluster's metrics");
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The most memory that the worker has had, in megabytes.
fn peak_mb(worker: &Worker) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", worker.pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? / 1024)
}
