//! Projects, pipelines and what is not there.

use buildit_tests::{api::client, installation::Installation};

use super::{one_step, started};

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_without_projects_says_what_to_do() {
    let (_installation, _worker, _browser, page) = started().await;
    page.open("/").await;
    page.shows("No project yet").await;
    page.shows("/api/v1/projects").await;
    page.pictures("projects-none").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_started_by_its_button_and_its_runs_are_filtered() {
    let (installation, _worker, _browser, page) = started().await;
    let green = one_step(&["true"]);
    for name in ["api-server", "billing", "docs", "mobile-app", "web"] {
        installation.project(name, &[(".platform.yaml", &green)]).await;
    }
    let project = installation.project("worker", &[(".platform.yaml", &green)]).await;
    page.open("/").await;
    assert_eq!(page.count("[data-item]").await, 6);
    page.shows("No run yet").await;

    page.follow("a[href='/projects/worker']").await;
    page.shows("buildit hook install").await;
    page.follow("main form[method=post] button").await;
    page.until("location.pathname.startsWith('/runs/')").await;
    page.until("document.title.includes('success')").await;
    page.shows("by hand").await;

    project.commit(&[(".platform.yaml", &one_step(&["echo broken", "exit 3"]))]);
    let failed = installation.trigger(&project).await;
    installation.ended(&failed).await;
    for name in ["api-server", "web"] {
        page.open(&format!("/projects/{name}/pipelines/default")).await;
        page.follow("main form[method=post] button").await;
        page.until("document.title.includes('success')").await;
    }

    page.open("/projects/worker/pipelines/default").await;
    assert_eq!(page.count("[data-item]").await, 2);
    page.pictures("pipeline").await;
    page.eval("document.querySelector('select[name=status]').value = 'failure'").await;
    page.follow("form.filters button").await;
    assert_eq!(page.count("[data-item]").await, 1);
    page.shows("#2").await;
    page.follow("form.filters a").await;
    page.eval("document.querySelector('select[name=trigger]').value = 'schedule'").await;
    page.follow("form.filters button").await;
    page.shows("No run like that").await;

    page.open("/").await;
    page.pictures("projects").await;
    page.size(360, 740).await;
    page.pictures("projects-phone").await;
    let wide = page.eval("document.documentElement.scrollWidth").await;
    assert_eq!(wide, 360, "nothing reaches beyond a phone's screen");
    page.size(1280, 800).await;
    page.fill("[data-search]", "web").await;
    page.eval("window.left = true").await;
    page.press("Enter").await;
    page.until("window.left !== true && document.querySelectorAll('[data-item]').length === 1").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_new_runs_without_being_loaded_again() {
    let (installation, _worker, _browser, page) = started().await;
    let project = installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    page.open("/projects/web/pipelines/default").await;
    page.eval("window.same = true").await;
    installation.trigger(&project).await;
    page.until("document.querySelector('#runs .is-success') !== null").await;
    assert_eq!(page.eval("window.same").await, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_page_for_people_and_json_for_programs() {
    let (installation, _worker, _browser, page) = started().await;
    for path in ["/nowhere", "/projects/nobody", "/runs/01a20163-32a8-7711-8afa-ef936c30180e"] {
        page.open(path).await;
        page.shows("There is nothing here").await;
    }
    page.picture("nothing-light").await;
    let answer = client().get(format!("{}/nowhere", installation.url)).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_what_they_may_do_and_assets_are_kept_for_good() {
    let installation = Installation::start().await;
    let get = async |path: &str| installation.send(|client| client.get(format!("{}{path}", installation.url))).await;
    let page = get("/").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["cache-control"], "no-store");
    let html = page.text().await.unwrap();
    assert!(!html.contains(" style=") && !html.contains("<style") && !html.contains("onclick"), "{html}");
    let style = html.split('"').find(|part| part.starts_with("/static/style-")).unwrap();
    let style = get(style).await;
    assert_eq!(style.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(get("/static/style.css").await.status(), 404);
}
