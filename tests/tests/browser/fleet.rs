//! What an operator does: see queues and workers, pause, find jobs and change many at once.

use buildit_shared::permission::Role;
use buildit_tests::{
    browser::{Browser, Page},
    eventually,
    installation::Installation,
};
use std::time::Duration;

use super::{one_step, started};

const LIMIT: Duration = Duration::from_secs(60);

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

/// Sends a form of one's own making from a page, with the right field; the status of the answer.
async fn send(page: &Page, path: &str) -> serde_json::Value {
    let send = "(async () => {
        const body = new URLSearchParams(new FormData(document.querySelector('header form')));
        return (await fetch(PATH, { method: 'POST', body })).status;
    })()";
    page.eval(&send.replace("PATH", &format!("{path:?}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_operate_the_installation_sees_what_is_theirs_and_changes_nothing() {
    let installation = Installation::start().await;
    let browser = Browser::start().await;
    let session = installation.session(Role::Viewer, false).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    let project = installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    let run = installation.trigger(&project).await;
    let strange = "insert into jobs (id, kind, queue, state, args, max_attempts, organization_id)
                   values (gen_random_uuid(), 'RunStep', 'steps', 'ready', '{}', 8, gen_random_uuid()) returning id::text";
    let strange: String = sqlx::query_scalar(strange).fetch_one(&installation.pool).await.unwrap();
    page.open("/fleet").await;
    page.shows("You see what is of your organization").await;
    page.until("document.querySelectorAll('#queues tbody tr').length === 1").await;
    assert!(page.text("#queues").await.contains("pipelines"), "the other organization's queue is not shown");
    assert_eq!(page.count("main form").await, 0, "no button that would be refused");
    page.pictures("fleet-viewer").await;

    page.open("/fleet/jobs").await;
    assert_eq!(page.count("#jobs tbody tr").await, 1);
    assert_eq!(page.count("main button:not(.filters button), main input[type=checkbox]").await, 0);
    page.follow("#jobs tbody a").await;
    page.shows("RunPipeline").await;
    page.shows(&run).await;
    assert_eq!(page.count("main button").await, 0);
    page.open(&format!("/fleet/jobs/{strange}")).await;
    page.shows("There is nothing here").await;

    page.open("/fleet").await;
    for path in [
        "/fleet/queues/steps/pause",
        "/fleet/queues/steps/resume",
        "/fleet/jobs/act",
        "/fleet/workers/01a20163-32a8-7711-8afa-ef936c30180e/drain",
        "/fleet/workers/01a20163-32a8-7711-8afa-ef936c30180e/resume",
    ] {
        assert_eq!(send(&page, path).await, 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_hands_over_and_stays_until_it_is_resumed() {
    let (installation, _worker, _browser, page) = started().await;
    let _second = installation.worker();
    let go = installation.shared.join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let project = installation.project("web", &[(".platform.yaml", &one_step(&["echo begun", &wait]))]).await;
    let run = installation.trigger(&project).await;
    installation.until(&run, "the step is at work", |run| run["steps"][0]["status"] == "running").await;
    let holder = "select w.pid from jobs j join workers w on w.id = j.worker_id where j.kind = 'RunStep'";
    let holder = async || sqlx::query_scalar::<_, i32>(holder).fetch_optional(&installation.pool).await.unwrap();
    let first = holder().await.unwrap();
    page.open("/fleet").await;
    let row =
        format!("[...document.querySelectorAll('#workers tbody tr')].find((r) => r.innerText.includes(' {first}'))");
    page.until(&format!("{row}.innerText.includes('RunStep web #1 test')")).await;
    page.eval(&format!("{row}.querySelector('button').id = 'drain'")).await;
    page.follow("#drain").await;
    page.shows("drained").await;
    page.shows("by owner@example.org").await;
    eventually("the other worker has the step", LIMIT, async || holder().await.is_some_and(|pid| pid != first)).await;
    page.until(&format!(
        "!{row}.innerText.includes('RunStep') && document.body.innerText.includes('RunStep web #1 test')"
    ))
    .await;
    page.pictures("fleet-drained").await;

    // The same attempt goes on, and its end's jobs go elsewhere as well.
    std::fs::write(&go, "").unwrap();
    let ended = installation.ended(&run).await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert_eq!(ended["steps"][0]["attempts"].as_array().unwrap().len(), 1, "{ended}");
    let state = async || {
        let state = sqlx::query_scalar("select state::text from workers where pid = $1").bind(first);
        state.fetch_one(&installation.pool).await.map(|state: String| state).unwrap()
    };
    assert_eq!(state().await, "draining");
    page.eval(&format!("{row}.querySelector('button').id = 'resume'")).await;
    page.follow("#resume").await;
    eventually("it claims again", LIMIT, async || state().await == "alive").await;
    let (_, log) = installation.get("/api/v1/audit?installation=true&action=worker.").await;
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["worker.resumed", "worker.drained"]);
}
