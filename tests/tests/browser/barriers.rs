//! Pages that everybody can use.

use buildit_tests::browser::Page;

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
    for path in [
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
