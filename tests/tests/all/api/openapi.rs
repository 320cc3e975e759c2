//! The OpenAPI document is what the server does: Schemathesis asks every operation of it for what the document allows
//! and for what it forbids.

use std::process::Command;

use buildit_tests::installation::Installation;

const FILE: &str = "
pipeline:
  steps:
    - { name: build, image: debian, commands: [echo built > file] }
  artifacts:
    - { name: file, path: file }
";

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_the_document_breaks_the_server_and_each_answer_is_as_it_says() {
    let program = std::env::var_os("BUILDIT_TEST_SCHEMATHESIS").expect("Schemathesis; run ./dev test");
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let project = installation.project("web", &[(".platform.yaml", FILE)]).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;

    let key = installation.folder.path().join("schemathesis.toml");
    let settings = format!("[headers]\nAuthorization = \"Bearer {}\"\n", installation.key);
    std::fs::write(&key, settings).unwrap();
    let mut schemathesis = Command::new(program);
    schemathesis
        .arg("--config-file")
        .arg(key)
        .args(["run", &format!("{}/api/v1/openapi.json", installation.url), "--no-color", "--warnings", "off"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        // Streams that end with the run.
        .args(["--exclude-path-regex", "/(logs|events)$"])
        .current_dir(installation.folder.path());
    let output = tokio::task::spawn_blocking(move || schemathesis.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", said.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
}
