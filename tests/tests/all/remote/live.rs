//! Logs and runs while they go on, and the API killed in between.

use std::{fs, time::Duration};

use buildit_tests::{
    eventually,
    installation::Installation,
    remote::{ApiProcess, User},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A step whose log grows by 200 lines each time that a file `go-N` appears, some of them no text.
fn counting(installation: &Installation, name: &str) -> String {
    let shared = installation.shared.display();
    format!(
        "
    - name: {name}
      image: debian
      depends_on: []
      commands:
        - |
          for part in 1 2 3 4; do
            until [ -e {shared}/go-$part ]; do sleep 0.02; done
            i=0; while [ $i -lt 200 ]; do i=$((i + 1)); printf '{name} %s.%s \\377\\342\\202 end\\n' $part $i; done
          done
"
    )
}

fn go(installation: &Installation, part: u32) {
    fs::write(installation.shared.join(format!("go-{part}")), "").unwrap();
}

/// What the steps of `counting` print last in that part.
fn last(name: &str, part: u32) -> String {
    format!("{name} {part}.200")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_has_every_byte_once_whenever_the_api_is_killed() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let file = format!("pipeline:\n  steps:{}", counting(&installation, "count"));
    installation.project("web", &[(".platform.yaml", &file)]).await;
    let mut api = ApiProcess::start(&installation).await;
    let user = User::at(&installation, &api.url, &installation.key);
    let run = user.says(&["trigger", "web", "--json"]).await.json()["id"].as_str().unwrap().to_owned();
    installation.until(&run, "it has begun", |run| run["steps"][0]["status"] == "running").await;
    let (mut one, mut all) =
        (user.starts(&["logs", &run, "count", "-f"]), user.starts(&["logs", &run, "-f", "--json"]));
    for part in 1..4 {
        go(&installation, part);
        one.until(&last("count", part)).await;
        all.until(&last("count", part)).await;
        api.kill();
        // Some of it comes while nobody answers.
        if part == 2 {
            go(&installation, 3);
            eventually("it says so", Duration::from_secs(60), async || one.err().contains("trying again")).await;
        }
        api.restart().await;
    }
    go(&installation, 4);
    assert_eq!((one.ended().await, all.ended().await), (0, 0), "{} {}", one.err(), all.err());
    let stored = installation.storage.get(&format!("logs/pipelines/{run}/count.log")).await.unwrap();
    assert_eq!(one.out(), stored.to_vec(), "{}", one.err());
    assert!(one.err().contains("answers again"), "{}", one.err());
    let text: String = String::from_utf8(all.out())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|line| line["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, String::from_utf8_lossy(&stored));
    assert_eq!(user.command(&["logs", &run, "count"]).output().await.unwrap().stdout, stored.to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_misses_nothing_whenever_the_api_is_killed_and_tells_the_end() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let (a, b) = (counting(&installation, "one"), counting(&installation, "other"));
    let end = "
    - { name: end, image: debian, depends_on: [one, other], commands: ['echo at the end', 'exit 3'] }";
    installation.project("web", &[(".platform.yaml", &format!("pipeline:\n  steps:{a}{b}{end}"))]).await;
    let mut api = ApiProcess::start(&installation).await;
    let user = User::at(&installation, &api.url, &installation.key);
    let mut watch = user.starts(&["trigger", "web", "--watch", "--logs"]);
    for part in 1..4 {
        go(&installation, part);
        watch.until(&last("one", part)).await;
        watch.until(&last("other", part)).await;
        api.kill();
        api.restart().await;
    }
    api.kill();
    go(&installation, 4);
    let run = installation.get("/api/v1/runs").await.1["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(installation.ended(&run).await["status"], "failure", "while nobody could tell");
    api.restart().await;
    assert_eq!(watch.ended().await, 1, "{}", watch.err());
    let out = String::from_utf8_lossy(&watch.out()).into_owned();
    for name in ["one", "other"] {
        let prefix = format!("{name:5} | {name} ");
        let lines: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix(&prefix)?.split(' ').next()).collect();
        let expected: Vec<String> = (1..5).flat_map(|part| (1..201).map(move |i| format!("{part}.{i}"))).collect();
        assert_eq!(lines, expected, "{name}");
    }
    assert_eq!(out.matches("end   | at the end\n").count(), 1, "{out}");
    assert_eq!(out.matches("end   | -- failure").count(), 1, "{out}");
    assert!(out.contains("(exit code 3)") && out.trim_end().contains("\nrun #1 of web: failure after"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_watch_and_not_the_run() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let file = format!("pipeline:\n  steps:{}", counting(&installation, "count"));
    installation.project("web", &[(".platform.yaml", &file)]).await;
    let user = User::of(&installation);
    let mut watch = user.starts(&["trigger", "web", "--watch"]);
    go(&installation, 1);
    watch.until(&last("count", 1)).await;
    watch.interrupt();
    assert_eq!(watch.ended().await, 130);
    assert!(watch.err().contains("run #1 of web goes on") && watch.err().contains("buildit cancel"), "{}", watch.err());
    for part in 2..5 {
        go(&installation, part);
    }
    let run = installation.get("/api/v1/runs").await.1["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(installation.ended(&run).await["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_followed_as_it_fails_and_later_attempts_too() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let gate = installation.shared.join("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: good, image: debian, depends_on: [], commands: ['echo fine'] }}
    - {{ name: bad, image: debian, retry: 1, depends_on: [], commands: ['{wait}', 'echo this is why', 'exit 1'] }}
"
    );
    installation.project("web", &[(".platform.yaml", &file)]).await;
    let user = User::of(&installation);
    assert_eq!(user.says(&["trigger", "web"]).await.code, 0);
    let (mut failed, mut step) =
        (user.starts(&["logs", "web#1", "-f", "--failed"]), user.starts(&["logs", "web#1", "-f", "--json"]));
    step.until("fine").await;
    fs::write(&gate, "").unwrap();
    assert_eq!((failed.ended().await, step.ended().await), (0, 0), "{}", failed.err());
    let failed = String::from_utf8(failed.out()).unwrap();
    assert!(failed.contains("bad  | this is why\n") && !failed.contains("good"), "{failed}");
    let lines: Vec<serde_json::Value> =
        String::from_utf8(step.out()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind && line["step"] == "bad").count();
    assert_eq!((of("attempt"), of("end")), (1, 1), "{lines:#?}");
    let ends: Vec<_> = lines.iter().filter(|line| line["type"] == "end").map(|line| &line["status"]).collect();
    assert_eq!(ends, [&json!("success"), &json!("failure")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_whose_answer_is_lost_starts_one_run() {
    let installation = Installation::start().await;
    installation.project("web", &[(".platform.yaml", "")]).await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let user = User::at(&installation, &format!("http://{}", proxy.local_addr().unwrap()), &installation.key);
    let server = installation.url.trim_start_matches("http://").to_owned();
    let passed_on = tokio::spawn(async move {
        let connected = async || (proxy.accept().await.unwrap().0, TcpStream::connect(&server).await.unwrap());
        let (mut client, mut to_server) = connected().await;
        let mut request = vec![0; 64 << 10];
        let length = client.read(&mut request).await.unwrap();
        to_server.write_all(&request[..length]).await.unwrap();
        // The run is there, and nobody hears of it.
        assert!(to_server.read(&mut request).await.unwrap() > 0);
        drop(client);
        let (mut client, mut to_server) = connected().await;
        tokio::io::copy_bidirectional(&mut client, &mut to_server).await.ok();
    });
    let said = user.says(&["trigger", "web"]).await;
    assert!(said.code == 0 && said.out.contains("run #1 of web has started"), "{said:?}");
    assert!(said.err.contains("trying again") && said.err.contains("answers again"), "{said:?}");
    passed_on.await.unwrap();
    assert_eq!(installation.get("/api/v1/runs").await.1["items"].as_array().unwrap().len(), 1);
}
