//! Who comes in, and what they may: by a provider of OpenID Connect, and by grants on single projects.

use buildit_api::OidcSettings;
use buildit_shared::permission::Role;
use buildit_tests::{
    browser::{Browser, Page},
    installation::Installation,
    provider::Provider,
};
use reqwest::StatusCode;
use serde_json::json;

use super::one_step;

/// On a phone nothing is wider than the window, and nothing shuts anybody out.
async fn is_fit_for_all(page: &Page, name: &str) {
    for dark in [false, true] {
        page.dark(dark).await;
        let found = page.barriers().await;
        assert!(found.is_empty(), "{name}, dark: {dark}:\n{}", found.join("\n"));
    }
    page.pictures(name).await;
    page.size(360, 740).await;
    page.reload().await;
    let in_sight = "[...document.querySelectorAll('.tabs [aria-current]')].every((tab) =>
        tab.getBoundingClientRect().left >= 0 && tab.getBoundingClientRect().right <= 360)";
    assert_eq!(page.eval(in_sight).await, true, "{name}: the tab that one is on is out of sight");
    page.pictures(&format!("{name}-phone")).await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360, "{name}");
    page.size(1280, 800).await;
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
async fn somebody_signs_in_by_the_provider_and_sees_what_they_are_linked_with() {
    let provider = Provider::start().await;
    let settings = OidcSettings { label: "Acme ID".into(), ..provider.settings() };
    let installation = Installation::with_oidc(settings).await;
    installation.project("web", &[(".platform.yaml", &one_step(&["true"]))]).await;
    installation.welcome("ada@acme.example", Role::Developer).await;
    let browser = Browser::start().await;
    let page = browser.page(&installation.url, None).await;

    page.open("/login").await;
    page.shows("Sign in with Acme ID").await;
    is_fit_for_all(&page, "login-provider").await;
    provider.says(|says| says.fails = Some(StatusCode::SERVICE_UNAVAILABLE));
    page.follow(".by-provider a").await;
    page.shows("Acme ID does not answer at the moment").await;
    is_fit_for_all(&page, "login-provider-away").await;

    provider.says(|says| (says.fails, says.error) = (None, Some("access_denied")));
    page.until(&format!(
        "fetch('{}/login/oidc', {{ redirect: 'manual' }}).then((answer) => answer.type === 'opaqueredirect')",
        installation.url
    ))
    .await;
    page.open("/projects/web/schedules").await;
    page.follow(".by-provider a").await;
    page.shows("you did not let Acme ID tell who you are").await;

    provider.says(|says| says.error = None);
    page.open("/projects/web/schedules").await;
    page.until("location.pathname === '/login'").await;
    page.follow(".by-provider a").await;
    page.until("location.pathname === '/projects/web/schedules'").await;
    page.open("/settings").await;
    page.shows("your only way in").await;
    assert!(page.text("#identities tbody").await.contains(&provider.issuer));
    assert_eq!(page.count("form[action='/settings/password']").await, 0, "there is none to change");
    is_fit_for_all(&page, "settings-linked").await;
    page.size(360, 400).await;
    page.open("/").await;
    page.open("/settings#identities").await;
    let top = "document.querySelector('#identities').getBoundingClientRect().top";
    assert!(page.eval(top).await.as_f64().unwrap() < 100.0, "the page stays where the address leads");
    page.size(1280, 800).await;

    let body = json!({ "email": "grace@acme.example", "role": "viewer" });
    let (_, invited) = installation.post("/api/v1/invitations", body).await;
    let guest = browser.page(&installation.url, None).await;
    guest.open(invited["url"].as_str().unwrap()).await;
    guest.shows("Join with Acme ID").await;
    is_fit_for_all(&guest, "join-provider").await;
    provider.says(|says| says.claims = json!({ "sub": "g", "email": "grace@acme.example", "email_verified": true }));
    guest.follow(".by-provider a").await;
    guest.until("location.pathname === '/'").await;
    guest.shows("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_is_granted_one_project() {
    let installation = Installation::start().await;
    for name in ["web", "other"] {
        installation.project(name, &[(".platform.yaml", &one_step(&["true"]))]).await;
    }
    let browser = Browser::start().await;
    let viewer = installation.session(Role::Viewer, false).await;
    let viewer = browser.page(&installation.url, Some(&viewer)).await;
    let owner = installation.session(Role::Owner, false).await;
    let page = browser.page(&installation.url, Some(&owner)).await;

    viewer.open("/projects/web/pipelines/default").await;
    assert_eq!(viewer.count("main form[method=post]").await, 0);
    page.open("/projects/web/forge").await;
    page.follow("nav.tabs a[href='/projects/web/access']").await;
    page.shows("Everybody is here what they are in the organization").await;
    press(&page, "Grant it").await;
    assert!(page.text("main tbody").await.contains("viewer@example.org"));
    is_fit_for_all(&page, "project-access").await;

    viewer.open("/projects/web/pipelines/default").await;
    viewer.follow("form[action$='/runs'] button").await;
    viewer.until("location.pathname.startsWith('/runs/')").await;
    viewer.open("/projects/other/pipelines/default").await;
    assert_eq!(viewer.count("main form[method=post]").await, 0);
    viewer.open("/projects/web/access").await;
    viewer.shows("You may not do that").await;

    press(&page, "Remove").await;
    page.shows("No grant").await;
    viewer.open("/projects/web/pipelines/default").await;
    assert_eq!(viewer.count("form[action$='/runs']").await, 0);
    assert_eq!(page.errors(), [""; 0]);
}
