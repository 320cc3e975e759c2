//! What an operator does: see queues and workers, pause, find jobs and change many at once.

use buildit_shared::permission::Role;
use buildit_tests::{browser::Browser, installation::Installation};

use super::{one_step, started};

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_with_a_reason_and_resumed() {
    let (installation, _worker, _browser, page) = started().await;
    let project = installation.project("web", &[(".platform.yaml", &one_step(&["sleep 600"]))]).await;
    let run = installation.trigger(&project).await;
    installation.until(&run, "the step is at work", |run| run["steps"][0]["status"] == "running").await;
    page.open("/fleet").await;
    page.shows("RunStep web #1 test").await;
    page.fill("input[aria-label='Why steps is paused']", "the disk is full").await;
    page.follow("#pause-steps").await;
    page.shows("Paused by owner@example.org").await;
    page.shows("the disk is full").await;
    page.pictures("fleet").await;
    page.size(360, 740).await;
    page.picture("fleet-phone").await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);
    page.size(1280, 800).await;
    page.follow("#resume-steps").await;
    page.until("document.querySelector('#pause-steps') !== null").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_jobs_are_read_and_all_that_match_are_retried_at_once() {
    let installation = Installation::start().await;
    let browser = Browser::start().await;
    let session = installation.session(Role::Owner, true).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    // Jobs of no run, dead; and one that another job has taken the place of.
    sqlx::query(
        "insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, enqueued_at, error)
         select gen_random_uuid(), 'Sweep', 'house', 'dead', 0, '{\"v\": 1}', 8, 8, 0, now(), 'the store is away: number ' || n
         from generate_series(1, 1100) n",
    )
    .execute(&installation.pool)
    .await
    .unwrap();
    page.open("/fleet/jobs?state=dead").await;
    page.shows("the store is away: number").await;
    page.pictures("jobs").await;
    page.follow("#jobs tbody a").await;
    page.shows("8 of 8").await;
    page.pictures("job").await;
    page.follow("button[value=retry]").await;
    page.shows("ready").await;

    page.open("/fleet/jobs?state=dead&text=number").await;
    page.eval("document.querySelector('select[name=which]').value = 'all'").await;
    page.follow("button[value=retry]").await;
    page.shows("Done with 1000 jobs").await;
    page.shows("More match").await;
    page.eval("document.querySelector('select[name=which]').value = 'all'").await;
    page.follow("button[value=retry]").await;
    page.shows("Done with 99 jobs").await;
    page.shows("all is well").await;
    let ready: i64 = sqlx::query_scalar("select count(*) from jobs where state = 'ready'")
        .fetch_one(&installation.pool)
        .await
        .unwrap();
    assert_eq!(ready, 1100);
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_operate_the_installation_does_not_see_the_fleet() {
    let installation = Installation::start().await;
    let browser = Browser::start().await;
    let session = installation.session(Role::Owner, false).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    for path in ["/fleet", "/fleet/jobs"] {
        page.open(path).await;
        page.shows("You may not do that").await;
    }
}
