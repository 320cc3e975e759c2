//! What an organization's administrators set: webhooks and secrets; what they read: the audit log; and who is in several.

use axum::{Router, http::StatusCode, routing::any};
use buildit_shared::{
    db::{organizations, users},
    permission::Role,
};
use buildit_tests::{
    browser::{Browser, Page},
    installation::Installation,
};

use super::one_step;

async fn of(role: Role) -> (Installation, Browser, Page) {
    let installation = Installation::start().await;
    let browser = Browser::start().await;
    let session = installation.session(role, false).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    (installation, browser, page)
}

/// A server that takes no message: its address.
async fn refusing() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(any(async || (StatusCode::IM_A_TEAPOT, "not today")));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/hook")
}

/// Presses the button with this text.
async fn press(page: &Page, text: &str) {
    let mark = format!(
        "window.confirm = () => true; [...document.querySelectorAll('main button')].find((b) => b.innerText.trim() === {text:?}).id = 'pressed'"
    );
    page.eval(&mark).await;
    page.follow("#pressed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_shows_its_secret_once_and_each_delivery_with_its_answers() {
    let (installation, _browser, page) = of(Role::Owner).await;
    let _worker = installation.worker_with(&[("BUILDIT_WEBHOOK_NETWORKS", r#"["127.0.0.1"]"#)]);
    page.open("/settings/webhooks").await;
    page.shows("No webhook").await;
    page.fill("input[name=url]", "https://user:secret@receiver.example").await;
    page.follow("form[action='/settings/webhooks'] button").await;
    page.shows("this is no address of the form").await;
    page.fill("input[name=url]", &refusing().await).await;
    page.follow("form[action='/settings/webhooks'] button").await;
    assert!(page.text("#made").await.starts_with("whsec_"));
    page.pictures("settings-webhooks").await;
    page.open("/settings/webhooks").await;
    assert_eq!(page.text("#made").await, "");
    page.shows("none yet").await;

    let project = installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    page.follow("main table a").await;
    page.shows("build.success").await;
    page.pictures("settings-webhook").await;
    page.follow("#deliveries a").await;
    page.shows("418").await;
    page.shows("not today").await;
    page.shows(&run).await;
    page.pictures("settings-delivery").await;
    page.size(360, 740).await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);
    page.size(1280, 800).await;
    let sent = page.count("#attempts tbody tr").await;
    page.follow("#again").await;
    page.until(&format!("document.querySelectorAll('#attempts tbody tr').length > {sent}")).await;

    page.open("/settings/webhooks").await;
    page.shows("pending").await;
    press(&page, "Turn off").await;
    page.shows("Turn on").await;
    press(&page, "Delete").await;
    page.shows("No webhook").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_filtered_and_exported() {
    let (installation, browser, page) = of(Role::Owner).await;
    installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    page.open("/settings/keys").await;
    page.fill("input[name=name]", "nightly report").await;
    page.follow("form[action='/settings/keys'] button").await;
    page.open("/settings/audit").await;
    page.shows("project.created").await;
    page.shows("api_key.created").await;
    page.eval("document.querySelector('td details').open = true").await;
    page.pictures("settings-audit").await;
    page.size(360, 740).await;
    page.picture("settings-audit-phone").await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);
    page.size(1280, 800).await;

    page.fill("input[name=what]", "api_key.").await;
    press(&page, "Filter").await;
    assert_eq!(page.count("main tbody tr").await, 1);
    page.shows("nightly report").await;
    let export = page.eval("document.querySelector('a[download]').getAttribute('href')").await;
    let text = page.eval(&format!("fetch({export}).then((answer) => answer.text())")).await;
    assert_eq!(text.as_str().unwrap().lines().count(), 2, "{text}");

    page.open("/settings/audit?since=2020-01-01&until=2020-01-02").await;
    page.shows("No entry like that").await;
    page.open("/settings/audit?project=web").await;
    assert_eq!(page.count("main tbody tr").await, 1);
    let who = "[...document.querySelectorAll('select[name=who] option')].find((o) => o.innerText === 'owner@example.org').value";
    let who = page.eval(who).await;
    page.open(&format!("/settings/audit?who={}", who.as_str().unwrap())).await;
    assert_eq!(page.count("main tbody tr").await, 1);
    page.shows("nightly report").await;

    let session = installation.session(Role::Developer, false).await;
    let developer = browser.page(&installation.url, Some(&session)).await;
    for path in ["/settings/audit", "/settings/webhooks", "/settings/secrets"] {
        developer.open(path).await;
        developer.shows("You may not do that").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_set_replaced_and_deleted_and_never_shown() {
    let (installation, _browser, page) = of(Role::Admin).await;
    installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    for path in ["/settings/secrets", "/projects/web/secrets"] {
        page.open(path).await;
        page.shows("No secret").await;
        for value in ["the first value", "another value"] {
            page.fill("input[name=name]", "TOKEN").await;
            page.fill("input[name=value]", value).await;
            press(&page, "Set it").await;
            page.until("document.querySelectorAll('main tbody tr').length === 1").await;
            page.shows("admin@example.org").await;
            let html = page.eval("document.documentElement.outerHTML").await;
            assert!(!html.as_str().unwrap().contains(value), "it is shown");
        }
        page.pictures(if path.starts_with("/settings") { "settings-secrets" } else { "project-secrets" }).await;
    }
    page.open("/projects/web/secrets").await;
    page.fill("input[name=name]", "TOKEN").await;
    page.fill("input[name=value]", "a third value").await;
    page.fill("input[name=environment]", "production").await;
    press(&page, "Set it").await;
    page.shows("For the environment production").await;
    page.shows("For any step").await;
    page.pictures("project-environment-secrets").await;
    let (_, secrets) = installation.get("/api/v1/projects/web/secrets").await;
    let environments: Vec<_> = (0..2).map(|index| secrets["items"][index]["environment"].as_str()).collect();
    assert_eq!(environments, [None, Some("production")], "{secrets}");
    page.eval("(window.confirm = () => true, null)").await;
    page.follow("input[name=environment][value=production] ~ button").await;
    page.until("document.querySelectorAll('main tbody tr').length === 1").await;
    let (_, secrets) = installation.get("/api/v1/projects/web/secrets").await;
    assert_eq!(secrets["items"][0]["environment"], serde_json::Value::Null, "{secrets}");
    for path in ["/settings/secrets", "/projects/web/secrets"] {
        page.open(path).await;
        press(&page, "Delete").await;
        page.shows("No secret").await;
    }
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_two_organizations_looks_at_one_at_a_time() {
    let (installation, _browser, page) = of(Role::Owner).await;
    installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    let mut connection = installation.pool.acquire().await.unwrap();
    let other = organizations::ensure(&mut connection, "side-project").await.unwrap();
    let user = users::ensure(&installation.pool, "owner@example.org", "owner").await.unwrap();
    organizations::ensure_member(&installation.pool, other, user, Role::Viewer).await.unwrap();
    page.open("/").await;
    page.shows("web").await;
    page.follow("header a[href='/settings#organizations']").await;
    page.shows("you look at this one").await;
    page.pictures("settings-organizations").await;
    press(&page, "Look at it").await;
    page.shows("No project yet").await;
    page.shows("side-project").await;
    page.open("/projects/web").await;
    page.shows("There is nothing here").await;
    page.open("/settings").await;
    press(&page, "Look at it").await;
    page.shows("web").await;
}
