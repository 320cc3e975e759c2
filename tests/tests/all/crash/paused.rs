//! A worker that was only paused finds that the world went on, and changes nothing.

use buildit_tests::installation::Installation;
use rustix::process::Signal;

use super::scenario;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_jobs_moved_on_changes_nothing() {
    let installation = Installation::start().await;
    let project = scenario::project(&installation, "paused").await;
    let zombie = installation.worker();
    let run = installation.trigger(&project).await;
    installation.until(&run, "the step runs", |run| run["steps"][0]["status"] == "running").await;
    zombie.signal(Signal::STOP);
    let _successor = installation.worker();
    let run = installation.ended(&run).await;
    scenario::check(&installation, &project, &run).await;

    zombie.signal(Signal::CONT);
    // It joins anew once it knows that it was declared dead.
    let rejoined = async {
        loop {
            let pid = i32::try_from(zombie.pid()).unwrap();
            let alive: bool =
                sqlx::query_scalar("select exists (select from workers where pid = $1 and state = 'alive')")
                    .bind(pid)
                    .fetch_one(&installation.pool)
                    .await
                    .unwrap();
            if alive {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), rejoined).await.expect("the zombie joins anew");
    let after = installation.run(run["id"].as_str().unwrap()).await;
    assert_eq!(after, run, "the run is as it was");
    scenario::check(&installation, &project, &after).await;
}
