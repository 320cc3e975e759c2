//! A run whose steps leave traces of how often they ran.

use std::fs;

use buildit_tests::installation::{Installation, Project};
use serde_json::Value;

/// Lines that each step logs, spread over about a second, so that a worker can die in the middle.
const LINES: u32 = 100;

/// Two steps, the second of which needs the first one's output, and an artifact.
pub(crate) async fn project(installation: &Installation, name: &str) -> Project {
    let ran = installation.shared.join(name);
    let trace = format!("echo $STEP_NAME >> {}-$PIPELINE_ID", ran.display());
    let talk = format!("for i in $(seq {LINES}); do echo \"$STEP_NAME line $i\"; sleep 0.008; done");
    let file = format!(
        r#"
pipeline:
  steps:
    - name: first
      image: debian
      commands:
        - '{trace}'
        - '{talk}'
        - echo from-first > handed-on
      outputs: [handed-on]
    - name: second
      image: debian
      commands:
        - '{trace}'
        - '{talk}'
        - cat handed-on > result.txt
  artifacts:
    - {{ name: result, path: result.txt }}
"#
    );
    installation.project(name, &[(".platform.yaml", &file)]).await
}

/// Checks that the run went as if no worker had ever died.
pub(crate) async fn check(installation: &Installation, project: &Project, run: &Value) {
    let id = run["id"].as_str().unwrap();
    assert_eq!(run["status"], "success", "{run:#}");
    let traces = installation.shared.join(format!("{}-{id}", project.name));
    assert_eq!(fs::read_to_string(traces).unwrap(), "first\nsecond\n", "each step's commands ran once");
    for step in run["steps"].as_array().unwrap() {
        assert_eq!(step["attempts"].as_array().unwrap().len(), 1, "{step:#}");
        let name = step["name"].as_str().unwrap();
        check_log(&installation.log(id, name).await, name);
    }
    let result = installation.storage.get(&format!("artifacts/{id}/result/result.txt")).await.unwrap();
    assert_eq!(result, "from-first\n");
}

fn check_log(log: &str, step: &str) {
    let mut said = log.lines().filter(|line| line.starts_with(&format!("{step} line ")));
    for i in 1..=LINES {
        assert_eq!(said.next(), Some(format!("{step} line {i}").as_str()), "every line once and in order: {log}");
    }
    assert_eq!(said.next(), None, "every line once and in order: {log}");
    assert!(!log.contains("[buildit:"), "no gap is marked: {log}");
}
