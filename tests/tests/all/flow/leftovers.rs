//! Objects that nothing names any more are deleted, and no others.

use std::path::{Path, PathBuf};

use buildit_shared::storage::{Signer, Storage};
use buildit_tests::installation::Installation;
use buildit_worker::{SweepError, sweep_mirrors, sweep_objects};
use serde_json::json;

use super::{id, run_of, started};

/// A run that failed in its second step and leaves everything a run can leave.
async fn failed(installation: &Installation, name: &str) -> serde_json::Value {
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: build, image: debian, commands: ['date +%s%N > built', 'echo 1 > extra'], outputs: [built] }}
    - {{ name: test, image: debian, commands: ['cat built', 'test -e {0}/mended', 'until [ -e {0}/go ]; do sleep 0.02; done'] }}
  artifacts:
    - {{ name: built, path: built, when: always }}
    - {{ name: extra, path: extra, when: always }}
",
        installation.shared.display()
    );
    let (_, run) = run_of(installation, name, &file).await;
    assert_eq!(run["status"], "failure", "{run:#}");
    run
}

/// The keys of all objects whose key names the run, in order.
fn objects(installation: &Installation, run: &str) -> Vec<String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let (root, mut found) = (installation.folder.path().join("objects"), Vec::new());
    below(&root, &mut found);
    let keys = found.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
    let mut keys: Vec<_> = keys.filter(|key| key.contains(run)).collect();
    keys.sort();
    keys
}

async fn sweep(installation: &Installation) -> Result<(), SweepError> {
    sweep_objects(&installation.pool, &installation.storage, 7).await
}

async fn notes(installation: &Installation) -> i64 {
    sqlx::query_scalar("select count(*) from leftovers").fetch_one(&installation.pool).await.unwrap()
}

async fn execute(installation: &Installation, statement: &'static str, run: &str) {
    let run: uuid::Uuid = run.parse().unwrap();
    sqlx::query(statement).bind(run).execute(&installation.pool).await.unwrap();
}

async fn delete(installation: &Installation, path: &str) {
    let answer = installation.send(|client| client.delete(format!("{}{path}", installation.url))).await;
    assert_eq!(answer.status().as_u16(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_or_pipeline_takes_the_objects_of_its_runs_along() {
    let (installation, _worker) = started().await;
    let (gone, emptied, kept) = (
        failed(&installation, "gone").await,
        failed(&installation, "emptied").await,
        failed(&installation, "kept").await,
    );
    let all = objects(&installation, id(&kept));
    for kind in ["checkouts/", "staged/", "artifacts/", "logs/pipelines/"] {
        assert!(all.iter().any(|key| key.starts_with(kind)), "{kind}: {all:?}");
    }
    delete(&installation, "/api/v1/projects/gone").await;
    delete(&installation, &format!("/api/v1/pipelines/{}", emptied["pipeline_id"].as_str().unwrap())).await;
    sweep(&installation).await.unwrap();
    assert_eq!(objects(&installation, id(&gone)), [""; 0]);
    assert_eq!(objects(&installation, id(&emptied)), [""; 0]);
    assert_eq!(objects(&installation, id(&kept)), all);
    assert_eq!(notes(&installation).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_takes_its_mirrors_along_once_nobody_works_with_them() {
    let (installation, _worker) = started().await;
    let (gone, kept) = (failed(&installation, "gone").await, failed(&installation, "kept").await);
    let mirrors = installation.folder.path().join("mirrors");
    let name =
        |run: &serde_json::Value, end: &str| mirrors.join(format!("{}{end}", run["project_id"].as_str().unwrap()));
    std::fs::create_dir(name(&gone, ".spare.git")).unwrap();
    assert_eq!(sweep_mirrors(&installation.pool, &mirrors).await.unwrap(), 0);
    delete(&installation, "/api/v1/projects/gone").await;

    let at_work = std::fs::File::open(name(&gone, ".lock")).unwrap();
    at_work.lock().unwrap();
    sweep_mirrors(&installation.pool, &mirrors).await.unwrap();
    assert!(name(&gone, ".git").exists() && !name(&gone, ".spare.git").exists());
    drop(at_work);
    assert_eq!(sweep_mirrors(&installation.pool, &mirrors).await.unwrap(), 1);
    let mut left: Vec<PathBuf> = std::fs::read_dir(&mirrors).unwrap().map(|entry| entry.unwrap().path()).collect();
    left.sort();
    assert_eq!(left, [name(&kept, ".git"), name(&kept, ".lock")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_steps_staged_goes_after_some_days_and_a_retry_says_so() {
    let (installation, _worker) = started().await;
    let (old, young) = (failed(&installation, "old").await, failed(&installation, "young").await);
    for name in ["mended", "go"] {
        std::fs::write(installation.shared.join(name), "").unwrap();
    }
    let (all, all_of_young) = (objects(&installation, id(&old)), objects(&installation, id(&young)));
    let age = "update pipeline_runs set finished_at = now() - interval '169 hours' where id = $1";
    execute(&installation, age, id(&old)).await;
    let age = "update pipeline_runs set finished_at = now() - interval '167 hours' where id = $1";
    execute(&installation, age, id(&young)).await;
    sweep(&installation).await.unwrap();
    let stays = |key: &&String| key.starts_with("logs/") || key.starts_with("artifacts/");
    let left = objects(&installation, id(&old));
    assert_eq!(left.iter().collect::<Vec<_>>(), all.iter().filter(stays).collect::<Vec<_>>());
    assert!(left.len() < all.len());
    assert_eq!(objects(&installation, id(&young)), all_of_young);

    let (status, answer) = installation.post(&format!("/api/v1/runs/{}/retry", id(&old)), json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("outputs_gone")), "{answer}");
    let said = answer["error"]["message"].as_str().unwrap();
    assert!(said.contains("outputs of its steps were deleted") && said.contains("`rerun`"), "{said}");
    let (status, again) = installation.post(&format!("/api/v1/runs/{}/rerun", id(&old)), json!({})).await;
    assert_eq!(status, 201, "{again}");
    assert_eq!(installation.ended(id(&again)).await["status"], "success");
    let (status, answer) = installation.post(&format!("/api/v1/runs/{}/retry", id(&young)), json!({})).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(installation.ended(id(&young)).await["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_never_planned_can_be_retried_however_old_it_is() {
    let (installation, _worker) = started().await;
    let file = "pipeline: { steps: [{ name: a, image: debian, commands: ['true'] }] }";
    let project = installation.project("late", &[(".platform.yaml", file)]).await;
    let run = installation.trigger_at(&project, "refs/heads/late").await;
    assert_eq!(installation.ended(&run).await["status"], "error");
    let age = "update pipeline_runs set finished_at = now() - interval '99 days' where id = $1";
    execute(&installation, age, &run).await;
    sweep(&installation).await.unwrap();
    project.push(&["HEAD:refs/heads/late"]);
    let (status, answer) = installation.post(&format!("/api/v1/runs/{run}/retry"), json!({})).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(installation.ended(&run).await["status"], "success");
    // It has inputs now, which are kept for as long as any other's.
    assert!(objects(&installation, &run).iter().any(|key| key.starts_with("checkouts/")));
    sweep(&installation).await.unwrap();
    assert!(objects(&installation, &run).iter().any(|key| key.starts_with("checkouts/")));
    execute(&installation, age, &run).await;
    sweep(&installation).await.unwrap();
    assert!(!objects(&installation, &run).iter().any(|key| key.starts_with("checkouts/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_artifact_goes_with_its_object() {
    let (installation, _worker) = started().await;
    let run = failed(&installation, "expiring").await;
    let published = |name: &str| format!("artifacts/{}/{name}/{name}", id(&run));
    let expire = "update artifacts set expires_at = now() - interval '1 second' where run_id = $1 and name = 'built'";
    execute(&installation, expire, id(&run)).await;
    sweep(&installation).await.unwrap();
    assert!(!installation.storage.exists(&published("built")).await.unwrap());
    assert!(installation.storage.exists(&published("extra")).await.unwrap());
    let names: Vec<String> =
        sqlx::query_scalar("select name from artifacts").fetch_all(&installation.pool).await.unwrap();
    assert_eq!(names, ["extra"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_retry_publishes_again_is_not_deleted_by_an_older_note() {
    let (installation, _worker) = started().await;
    let run = failed(&installation, "republished").await;
    let published = format!("artifacts/{}/built/built", id(&run));
    // A sweep had noted the expired file and got no further when the retry came.
    let note = "with gone as (delete from artifacts where run_id = $1 and name = 'built' returning run_id, storage_key)
                insert into leftovers (run_id, kind, storage_key) select run_id, 'artifact', storage_key from gone";
    execute(&installation, note, id(&run)).await;
    std::fs::write(installation.shared.join("mended"), "").unwrap();
    let (status, answer) = installation.post(&format!("/api/v1/runs/{}/retry", id(&run)), json!({})).await;
    assert_eq!(status, 202, "{answer}");
    sweep(&installation).await.unwrap();
    assert_eq!(notes(&installation).await, 1, "nobody knows yet what the run will publish");
    std::fs::write(installation.shared.join("go"), "").unwrap();
    assert_eq!(installation.ended(id(&run)).await["status"], "success");
    sweep(&installation).await.unwrap();
    assert_eq!(notes(&installation).await, 0);
    assert!(installation.storage.exists(&published).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_breaks_off_is_taken_up_again() {
    let (installation, worker) = started().await;
    let run = failed(&installation, "interrupted").await;
    // It keeps house as well.
    drop(worker);
    delete(&installation, "/api/v1/projects/interrupted").await;
    // A store that cannot delete: where the folder of staged files should be there is none.
    let broken = installation.folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("staged"), "").unwrap();
    let storage = Storage::files(&broken, Signer::new(installation.url.parse().unwrap(), b"a key")).unwrap();
    let swept = sweep_objects(&installation.pool, &storage, 7).await;
    assert!(matches!(swept, Err(SweepError::Storage { .. })), "{swept:?}");
    assert_eq!(notes(&installation).await, 1);
    sweep(&installation).await.unwrap();
    assert_eq!(objects(&installation, id(&run)), [""; 0]);
    assert_eq!(notes(&installation).await, 0);

    // It died between the objects and the note: there is nothing left to delete, which is as good.
    execute(&installation, "insert into leftovers (run_id, kind) values ($1, 'everything')", id(&run)).await;
    sweep(&installation).await.unwrap();
    assert_eq!(notes(&installation).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_sweep_side_by_side() {
    let (installation, _worker) = started().await;
    let run = failed(&installation, "shared").await;
    delete(&installation, "/api/v1/projects/shared").await;
    let swept = tokio::join!(sweep(&installation), sweep(&installation), sweep(&installation));
    assert!(matches!(swept, (Ok(()), Ok(()), Ok(()))), "{swept:?}");
    assert_eq!(objects(&installation, id(&run)), [""; 0]);
    assert_eq!(notes(&installation).await, 0);
}
