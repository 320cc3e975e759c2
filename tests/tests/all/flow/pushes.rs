//! `git push` into a repository with the installed hook.

use std::time::Instant;

use buildit_tests::installation::{Installation, Project, git};
use serde_json::{Value, json};

use super::{id, reason, started};

const FILE: &str = "
pipeline:
  steps: [{ name: a, image: debian, commands: ['true'] }]
  on: { push: { branches: ['**'], tags: ['v*'] } }
";

async fn hooked(installation: &Installation, name: &str) -> Project {
    let project = installation.project(name, &[(".platform.yaml", FILE)]).await;
    installation.install_hook(&project, &[]);
    project
}

/// All runs of the project, oldest first.
async fn runs(installation: &Installation, project: &Project) -> Vec<Value> {
    let (status, page) = installation.get(&format!("/api/v1/projects/{}/runs", project.name)).await;
    assert_eq!(status, 200, "{page}");
    let mut runs = page["items"].as_array().unwrap().clone();
    runs.sort_by_key(|run| run["number"].as_i64());
    runs
}

fn refs(runs: &[Value]) -> Vec<(&str, &str)> {
    let mut refs: Vec<_> =
        runs.iter().map(|run| (run["ref"].as_str().unwrap(), run["commit_sha"].as_str().unwrap())).collect();
    refs.sort_unstable();
    refs
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pusher_sees_the_address_of_the_run() {
    let (installation, _worker) = started().await;
    let project = hooked(&installation, "hooked").await;
    git(project.work(), &["commit", "-q", "--allow-empty", "-m", "pushed"]);
    let begun = Instant::now();
    let said = project.push(&["main"]);
    println!("a push with its hook took {} ms", begun.elapsed().as_millis());
    let runs = runs(&installation, &project).await;
    assert_eq!(runs.len(), 1);
    assert!(said.contains(runs[0]["url"].as_str().unwrap()), "{said}");
    let run = installation.ended(id(&runs[0])).await;
    assert_eq!((&run["status"], &run["trigger"]), (&json!("success"), &json!("push")), "{run:#}");
    assert_eq!(run["commit_message"], "pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_push_does_the_sensible_thing() {
    let (installation, _worker) = started().await;
    let project = hooked(&installation, "kinds").await;
    let first = git(project.work(), &["rev-parse", "HEAD"]);
    // A new branch, a tag and an annotated tag in one push.
    git(project.work(), &["tag", "v1"]);
    git(project.work(), &["tag", "-m", "two", "v2"]);
    git(project.work(), &["tag", "other"]);
    project.push(&["HEAD:refs/heads/side/one", "v1", "v2", "other"]);
    let seen = runs(&installation, &project).await;
    let expected = [
        ("refs/heads/side/one", first.as_str()),
        ("refs/tags/other", &first),
        ("refs/tags/v1", &first),
        ("refs/tags/v2", &first),
    ];
    assert_eq!(refs(&seen), expected);
    for run in &seen {
        let run = installation.ended(id(run)).await;
        let expected = if run["ref"] == "refs/tags/other" { "skipped" } else { "success" };
        assert_eq!(run["status"], expected, "{run:#}");
        if expected == "skipped" {
            assert!(reason(&run).contains("`other`"), "{run:#}");
        }
    }
    // A forced push runs the new commit.
    git(project.work(), &["commit", "-q", "--amend", "--allow-empty", "-m", "instead"]);
    let instead = git(project.work(), &["rev-parse", "HEAD"]);
    project.push(&["--force", "HEAD:refs/heads/side/one"]);
    let seen = runs(&installation, &project).await;
    assert_eq!(seen.len(), 5);
    let run = installation.ended(id(&seen[4])).await;
    assert_eq!((&run["status"], &run["commit_sha"]), (&json!("success"), &json!(instead)), "{run:#}");
    // A deleted branch is nothing to run.
    let said = project.push(&["--delete", "side/one"]);
    assert!(!said.contains("BuildIt"), "{said}");
    assert_eq!(runs(&installation, &project).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_while_the_api_is_down_is_kept_and_delivered_once() {
    let (mut installation, _worker) = started().await;
    let project = hooked(&installation, "kept").await;
    installation.stop_api().await;
    git(project.work(), &["commit", "-q", "--allow-empty", "-m", "while it was down"]);
    let begun = Instant::now();
    let said = project.push(&["main"]);
    assert!(begun.elapsed().as_secs() < 6, "a push does not hang: {:?}", begun.elapsed());
    assert!(said.contains("announced later"), "{said}");
    installation.start_api().await;
    let back = Instant::now();
    let delivered = async {
        while runs(&installation, &project).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), delivered).await.expect("delivered later");
    println!("delivered {:.1} s after the API was back", back.elapsed().as_secs_f64());
    let seen = runs(&installation, &project).await;
    let run = installation.ended(id(&seen[0])).await;
    assert_eq!((&run["status"], &run["commit_message"]), (&json!("success"), &json!("while it was down")));
    // The next push brings its own run and no second one of the kept.
    git(project.work(), &["commit", "-q", "--allow-empty", "-m", "later"]);
    project.push(&["main"]);
    assert_eq!(runs(&installation, &project).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_can_be_refused_at_the_push() {
    let (installation, _worker) = started().await;
    let project = installation.project("refusing", &[(".platform.yaml", FILE)]).await;
    installation.install_hook(&project, &["--pre-receive"]);
    std::fs::write(project.work().join(".platform.yaml"), "pipeline:\n  stepz: []\n").unwrap();
    git(project.work(), &["commit", "-qam", "broken"]);
    let push = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "push", &project.repository.to_string_lossy(), "main"])
        .current_dir(project.work())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&push.stderr);
    assert!(!push.status.success() && said.contains(".platform.yaml:2:3"), "{said}");
    assert!(runs(&installation, &project).await.is_empty());
}
