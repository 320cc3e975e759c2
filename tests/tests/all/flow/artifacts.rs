//! What steps leave behind, from the workspace to the download.

use std::io::{Cursor, Read};

use buildit_tests::installation::Installation;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{id, run_of, started};

/// What a request with the key brings; where that is a redirect, what is there for one without.
async fn get(installation: &Installation, url: &str) -> Vec<u8> {
    let response = installation.send(|client| client.get(url)).await;
    if let Some(location) = response.headers().get("location") {
        return get_without_key(location.to_str().unwrap()).await;
    }
    assert_eq!(response.status(), 200, "{url}");
    response.bytes().await.unwrap().to_vec()
}

async fn files(installation: &Installation, run: &Value, name: &str) -> Vec<Value> {
    let (status, page) = installation.get(&format!("/api/v1/runs/{}/artifacts/{name}", id(run))).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
}

fn notes(run: &Value) -> Vec<&str> {
    run["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_comes_back_as_it_was_by_an_address_that_needs_no_key() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: make, image: debian, commands: [head -c 3000000 /dev/urandom > data.bin, sha256sum < data.bin] }
  artifacts:
    - { name: data, path: data.bin, expires: 7d }
";
    let (_, run) = run_of(&installation, "round-trip", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let log = installation.log(id(&run), "make").await;
    let files = files(&installation, &run, "data").await;
    let [file] = files.as_slice() else { panic!("{files:#?}") };
    assert_eq!((file["path"].as_str(), file["size"].as_i64()), (Some("data.bin"), Some(3_000_000)));
    let url = file["download_url"].as_str().unwrap();
    let bytes = get_without_key(url).await;
    let hash = sha256(&bytes);
    assert!(log.contains(&hash), "the step said {log}, and {hash} came");
    assert_eq!(file["sha256"], hash);
    let key = format!("artifacts/{}/data/data.bin", id(&run));
    assert_eq!(installation.storage.get(&key).await.unwrap(), bytes);
    let days = (timestamp(&file["expires_at"]) - timestamp(&file["created_at"])).get_seconds() as f64 / 86400.0;
    assert!((6.9..7.1).contains(&days), "{days}");
    assert!(notes(&run).is_empty(), "{run:#}");
}

fn timestamp(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

async fn get_without_key(url: &str) -> Vec<u8> {
    let response = buildit_tests::api::client().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_files_come_singly_and_as_one_archive() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: make, image: debian, commands: ['mkdir -p out/deep && echo a > out/a.txt && echo b > out/deep/b.txt && echo c > out/c.log'] }
  artifacts:
    - { name: texts, path: 'out/**/*.txt' }
    - { name: folder, path: out/ }
";
    let (_, run) = run_of(&installation, "several", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let paths =
        |files: &[Value]| files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(&files(&installation, &run, "texts").await), ["out/a.txt", "out/deep/b.txt"]);
    assert_eq!(paths(&files(&installation, &run, "folder").await), ["out/a.txt", "out/c.log", "out/deep/b.txt"]);
    let base = format!("{}/api/v1/runs/{}/artifacts/texts", installation.url, id(&run));
    assert_eq!(get(&installation, &format!("{base}/files/out/deep/b.txt")).await, b"b\n");
    let mut archive = zip::ZipArchive::new(Cursor::new(get(&installation, &format!("{base}/archive")).await)).unwrap();
    assert_eq!(archive.len(), 2);
    let mut text = String::new();
    archive.by_name("out/deep/b.txt").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "b\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_publishes_what_is_wanted_always_and_nothing_else() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: test, image: debian, commands: [echo results > results.xml, echo app > app, 'false'] }
  artifacts:
    - { name: results, path: results.xml, when: always }
    - { name: dump, path: results.xml, when: failure }
    - { name: app, path: app }
";
    let (_, run) = run_of(&installation, "always", file).await;
    assert_eq!(run["status"], "failure", "{run:#}");
    let (_, page) = installation.get(&format!("/api/v1/runs/{}/artifacts", id(&run))).await;
    let names: Vec<_> = page["items"].as_array().unwrap().iter().map(|artifact| &artifact["name"]).collect();
    assert_eq!(names, ["dump", "results"]);
    assert_eq!(
        installation.storage.get(&format!("artifacts/{}/results/results.xml", id(&run))).await.unwrap(),
        "results\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matched_nothing_and_what_was_staged_twice_is_said() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: one, image: debian, commands: [echo from one > report.txt] }
    - { name: two, image: debian, commands: [echo from two > report.txt] }
  artifacts:
    - { name: report, path: report.txt }
    - { name: coverage, path: 'coverage/*.lcov' }
";
    let (_, run) = run_of(&installation, "noted", file).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let notes = notes(&run);
    assert!(notes.iter().any(|note| note.contains("`coverage`") && note.contains("coverage/*.lcov")), "{notes:?}");
    let twice = notes.iter().find(|note| note.contains("`report`")).unwrap();
    assert!(twice.contains("`one`") && twice.contains("`two`") && twice.contains("report.txt"), "{notes:?}");
    assert_eq!(
        installation.storage.get(&format!("artifacts/{}/report/report.txt", id(&run))).await.unwrap(),
        "from two\n"
    );
}
