//! A minute of random kills, with database restarts in between.

use std::time::{Duration, Instant};

use buildit_tests::installation::{Installation, Worker};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::scenario;

const TIME: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_killed_at_random_for_a_minute() {
    kill_at_random(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_killed_at_random_for_a_minute() {
    kill_at_random(4).await;
}

async fn kill_at_random(count: usize) {
    let mut installation = Installation::with_own_server().await;
    let project = scenario::project(&installation, &format!("random-{count}")).await;
    let mut chance = StdRng::seed_from_u64(count as u64);
    let mut workers: Vec<Worker> = (0..count).map(|_| installation.worker()).collect();
    // How long it takes here and now: six workers that die over one job before any of them could have got on with it are
    // reason enough to give the job up.
    let first = installation.trigger(&project).await;
    let begun = Instant::now();
    installation.ended(&first).await;
    let pace = begun.elapsed().max(Duration::from_secs(1));
    let (mut runs, mut kills, mut restarts) = (vec![first], 0, 0);
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        runs.push(installation.trigger(&project).await);
        tokio::time::sleep(pace.mul_f64(chance.random_range(0.2..1.8))).await;
        let victim = chance.random_range(0..count);
        workers[victim].kill();
        workers[victim] = installation.worker();
        kills += 1;
        if begun.elapsed() > TIME * (restarts + 1) / 3 && restarts < 2 {
            installation.server().restart(&|_| {}).await.unwrap();
            restarts += 1;
        }
    }
    for run in &runs {
        let run = installation.ended(run).await;
        scenario::check(&installation, &project, &run).await;
    }
    let (errors, deaths): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where kind = 'failed'), count(*) filter (where kind = 'worker_died') from job_errors",
    )
    .fetch_one(&installation.pool)
    .await
    .unwrap();
    println!(
        "{count} workers: {kills} kills and {restarts} database restarts; {} runs, all ended well; \
         {deaths} jobs moved on from dead workers, {errors} failed attempts; last run ended after {:.0} s",
        runs.len(),
        begun.elapsed().as_secs_f64()
    );
}
