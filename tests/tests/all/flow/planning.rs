//! From a commit to a plan, or to a reason why there is none.

use std::{
    fs,
    time::{Duration, Instant},
};

use buildit_tests::installation::git;
use serde_json::json;
use uuid::Uuid;

use super::{id, reason, run_of, started, step};

const GREEN: &str = "pipeline: { steps: [{ name: a, image: debian, commands: [git log -1 --format=%H] }] }";

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_no_filter_matches_is_skipped_with_the_reason() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps: [{ name: a, image: debian, commands: ['true'] }]
  on: { push: { branches: [main, 'release/*'] } }
";
    let project = installation.project("filtered", &[(".platform.yaml", file)]).await;
    let commit = git(project.work(), &["rev-parse", "HEAD"]);
    project.push(&["HEAD:refs/heads/feature/x"]);
    let runs = installation.deliver(&project, Uuid::now_v7(), "refs/heads/feature/x", &commit).await;
    let run = installation.ended(id(&runs[0])).await;
    assert_eq!(run["status"], "skipped", "{run:#}");
    assert!(reason(&run).contains("`feature/x`") && reason(&run).contains("`release/*`"), "{run:#}");
    assert_eq!(run["steps"], json!([]));
    assert_eq!(run["commit_sha"], json!(commit));
    let runs = installation.deliver(&project, Uuid::now_v7(), "refs/heads/main", &commit).await;
    assert_eq!(installation.ended(id(&runs[0])).await["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_leaves_an_error_with_all_its_diagnostics() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: build, image: debian, commands: ['true'] }
    - { name: Test, image: debian, comands: ['true'], depends_on: [biuld] }
";
    let (_, run) = run_of(&installation, "broken", file).await;
    assert_eq!(run["status"], "error", "{run:#}");
    assert!(reason(&run).starts_with(".platform.yaml:5:"), "{run:#}");
    let diagnostics = run["diagnostics"].as_array().unwrap();
    assert!(diagnostics.len() >= 3, "{run:#}");
    assert!(diagnostics.iter().all(|diagnostic| diagnostic["line"] == 5 && diagnostic["column"].as_u64() > Some(4)));
    assert!(run.to_string().contains("commands") && run.to_string().contains("build"), "suggestions: {run:#}");
    assert_eq!(run["steps"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_an_error_where_one_asked_and_a_skip_where_one_pushed() {
    let (installation, _worker) = started().await;
    let project = installation.project("bare", &[("README", "nothing here")]).await;
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "error", "{run:#}");
    assert!(reason(&run).contains("there is no .platform.yaml"), "{run:#}");
    let commit = git(project.work(), &["rev-parse", "HEAD"]);
    let runs = installation.deliver(&project, Uuid::now_v7(), "refs/heads/main", &commit).await;
    let run = installation.ended(id(&runs[0])).await;
    assert_eq!(run["status"], "skipped", "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_does_not_exist_is_a_clear_error() {
    let (installation, _worker) = started().await;
    let project = installation.project("no-ref", &[(".platform.yaml", GREEN)]).await;
    let run = installation.trigger_at(&project, "nowhere").await;
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "error", "{run:#}");
    assert!(reason(&run).contains("nowhere"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_push_before_the_plan_changes_nothing_while_the_commit_is_there() {
    let installation = buildit_tests::installation::Installation::start().await;
    let project = installation.project("forced", &[(".platform.yaml", GREEN)]).await;
    let pinned = project.commit(&[("a", "pinned")]);
    let runs = installation.deliver(&project, Uuid::now_v7(), "refs/heads/main", &pinned).await;
    git(project.work(), &["commit", "-q", "--amend", "--allow-empty", "-m", "other"]);
    project.push(&["--force", "main"]);
    let _worker = installation.worker();
    let run = installation.ended(id(&runs[0])).await;
    assert_eq!((&run["status"], &run["commit_sha"]), (&json!("success"), &json!(pinned)), "{run:#}");
    assert!(installation.log(id(&run), "a").await.contains(&pinned));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_share_a_fetch_and_a_packing_have_what_was_pushed_before_them() {
    let (installation, _worker) = started().await;
    let project = installation.project("shared", &[(".platform.yaml", GREEN)]).await;
    for round in ["one", "two", "three"] {
        let pushed = project.commit(&[("round", round)]);
        let runs = futures::future::join_all((0..8).map(|_| installation.trigger(&project))).await;
        for run in runs {
            let run = installation.ended(&run).await;
            assert_eq!((&run["status"], &run["commit_sha"]), (&json!("success"), &json!(pushed)), "{run:#}");
            assert!(installation.log(id(&run), "a").await.contains(&pushed));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_gone_is_a_clear_error() {
    let installation = buildit_tests::installation::Installation::start().await;
    let project = installation.project("gone", &[(".platform.yaml", GREEN)]).await;
    let gone = project.commit(&[("a", "gone")]);
    let runs = installation.deliver(&project, Uuid::now_v7(), "refs/heads/main", &gone).await;
    git(project.work(), &["reset", "-q", "--hard", "HEAD~1"]);
    project.push(&["--force", "main"]);
    git(&project.repository, &["reflog", "expire", "--expire=now", "--all"]);
    git(&project.repository, &["gc", "-q", "--prune=now"]);
    let _worker = installation.worker();
    let run = installation.ended(id(&runs[0])).await;
    assert_eq!(run["status"], "error", "{run:#}");
    assert!(reason(&run).contains(&gone) && reason(&run).contains("not in"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_a_killed_git_left_in_the_mirror_are_cleared() {
    let (installation, worker) = started().await;
    let project = installation.project("locked", &[(".platform.yaml", GREEN)]).await;
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    let mirrors = installation.folder.path().join("mirrors");
    let mirror = mirrors.join(format!("{}.git", run["project_id"].as_str().unwrap()));
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    let locks = ["config.lock", "HEAD.lock", "packed-refs.lock", "shallow.lock", "refs/buildit/runs/x.lock"];
    for lock in locks {
        let file = fs::File::create(mirror.join(lock)).unwrap();
        file.set_modified(old).unwrap();
    }
    project.commit(&[("b", "more")]);
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#} {}", worker.said());
    assert!(locks.iter().all(|lock| !mirror.join(lock).exists()));
    assert_eq!(step(&run, "a")["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_still_be_held_is_waited_for() {
    let (installation, worker) = started().await;
    let project = installation.project("fresh", &[(".platform.yaml", GREEN)]).await;
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    worker.kill();
    let run_id = installation.trigger(&project).await;
    // As a git leaves it that was killed while it pinned this run's commit.
    let pins = format!("mirrors/{}.git/refs/buildit/runs", run["project_id"].as_str().unwrap());
    let lock = installation.folder.path().join(pins).join(format!("{run_id}.lock"));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    let begun = Instant::now();
    let worker = installation.worker();
    let run = installation.ended(&run_id).await;
    println!("a run whose pin was locked just now ended after {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(run["status"], "success", "{run:#} {}", worker.said());
    assert!(!lock.exists());
}
