//! Getting in and out.

use buildit_shared::permission::Role;
use buildit_tests::{browser::Browser, installation::Installation};

use super::one_step;

#[tokio::test(flavor = "multi_thread")]
async fn somebody_new_chooses_a_password_and_comes_back_with_it() {
    let installation = Installation::start().await;
    let link = installation.welcome("ada@example.org", Role::Developer).await;
    let browser = Browser::start().await;
    let page = browser.page(&installation.url, None).await;

    page.open(&link).await;
    page.shows("ada@example.org").await;
    page.pictures("welcome").await;
    page.fill("input[name=password]", "ada@example.org").await;
    page.follow("main button").await;
    page.until("document.querySelector('[role=alert]') !== null").await;
    page.fill("input[name=password]", "a long enough one").await;
    page.follow("main button").await;
    page.shows("No project yet").await;

    page.follow("header form button").await;
    page.until("location.pathname === '/login'").await;
    // The link served once.
    page.open(&link).await;
    page.shows("has been used").await;

    // Who wanted to see a page sees it after signing in.
    page.open("/?q=web").await;
    page.until("location.pathname === '/login'").await;
    page.fill("input[name=email]", "ada@example.org").await;
    page.fill("input[name=password]", "not the right one").await;
    page.follow("main button").await;
    page.shows("is wrong").await;
    page.pictures("login").await;
    page.fill("input[name=password]", "a long enough one").await;
    page.follow("main button").await;
    page.until("location.pathname + location.search === '/?q=web'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_everything_and_can_change_nothing() {
    let installation = Installation::start().await;
    installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    let session = installation.session(Role::Viewer, false).await;
    let browser = Browser::start().await;
    let page = browser.page(&installation.url, Some(&session)).await;
    page.open("/projects/web/pipelines/default").await;
    page.shows("No run yet").await;
    assert_eq!(page.count("main form[method=post]").await, 0, "no button that would be refused");
    // Nor by a form of their own making, which has the right field.
    let sent = "(async () => {
        const body = new FormData(document.querySelector('header form'));
        const answer = await fetch('/projects/web/pipelines/default/runs', { method: 'POST', body: new URLSearchParams(body) });
        return answer.status;
    })()";
    assert_eq!(page.eval(sent).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_session_is_refused() {
    let installation = Installation::start().await;
    installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    let browser = Browser::start().await;
    let session = installation.session(Role::Owner, true).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    page.open("/projects/web/pipelines/default").await;
    page.eval("document.querySelector('main input[name=csrf]').value = 'forged'").await;
    page.follow("main form[method=post] button").await;
    page.shows("another session").await;
    assert_eq!(installation.get("/api/v1/runs").await.1["items"].as_array().unwrap().len(), 0);
}
