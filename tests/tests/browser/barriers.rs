//! Pages that everybody can use.

use buildit_shared::permission::Role;
use buildit_tests::browser::Page;
use serde_json::json;

use super::{one_step, started};

async fn check(page: &Page, path: &str) {
    page.open(path).await;
    for dark in [false, true] {
        page.dark(dark).await;
        let found = page.barriers().await;
        assert!(found.is_empty(), "{path}, dark: {dark}:\n{}", found.join("\n"));
    }
    page.dark(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_shuts_anybody_out() {
    let (installation, _worker, browser, page) = started().await;
    let guest = browser.page(&installation.url, None).await;
    check(&guest, "/login").await;
    check(&guest, &installation.welcome("ada@example.org", Role::Developer).await).await;
    let (status, invited) =
        installation.post("/api/v1/invitations", json!({ "email": "grace@example.org", "role": "viewer" })).await;
    assert_eq!(status, 201, "{invited}");
    check(&guest, invited["url"].as_str().unwrap()).await;
    check(&page, "/").await;
    let file = one_step(&[
        "mkdir report",
        "echo hello > report/index.html",
        "printf '\\033[31mred\\033[32mgreen\\033[33myellow\\033[34mblue\\033[0m\\n'; exit 3",
    ]) + "  artifacts:\n    - { name: report, path: report/, when: always }\n";
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    check(&page, "/projects/web/pipelines/default").await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    page.open(&format!("/runs/{run}")).await;
    page.until("document.querySelector('.lines .f1') !== null").await;
    let (_, webhook) = installation.post("/api/v1/webhooks", json!({ "url": "https://receiver.example/" })).await;
    let webhook = format!("/settings/webhooks/{}", webhook["id"].as_str().unwrap());
    // One that is told of another run's end.
    let told = installation.trigger(&project).await;
    installation.ended(&told).await;
    let hook = installation.send(|client| {
        client.put(format!("{}/api/v1/projects/web/forge", installation.url)).json(&json!({ "forge": "gitea" }))
    });
    assert_eq!(hook.await.status(), 200);
    let schedule = json!({ "cron": "0 3 * * *", "timezone": "Europe/Berlin" });
    assert_eq!(installation.post("/api/v1/projects/web/schedules", schedule).await.0, 201);
    page.open(&webhook).await;
    let delivery = page.eval("document.querySelector('#deliveries a').getAttribute('href')").await;
    page.open("/fleet/jobs").await;
    let job = page.eval("document.querySelector('#jobs tbody a').getAttribute('href')").await;
    for path in [
        webhook,
        delivery.as_str().unwrap().into(),
        job.as_str().unwrap().into(),
        format!("/runs/{run}/artifacts/report/view/index.html"),
        "/settings/webhooks".into(),
        "/settings/audit".into(),
        "/projects/web/forge".into(),
        "/projects/web/schedules".into(),
        format!("/runs/{run}"),
        format!("/runs/{run}/artifacts/report"),
        "/".into(),
        "/projects/web/pipelines/default".into(),
        "/projects/web/secrets".into(),
        "/new".into(),
        "/projects/web/new".into(),
        "/projects/web/pipelines/default/setup".into(),
        "/projects/web/pipelines/default/setup?stack=node".into(),
        "/projects/web/pipelines/default/setup/start".into(),
        "/fleet".into(),
        "/fleet/jobs".into(),
        "/settings".into(),
        "/settings/members".into(),
        "/settings/keys".into(),
        "/settings/secrets".into(),
        "/nowhere".into(),
    ] {
        check(&page, &path).await;
    }
}
