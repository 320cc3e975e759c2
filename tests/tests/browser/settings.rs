//! Members, keys, secrets, and one's own account.

use buildit_shared::permission::Role;
use buildit_tests::{api::client, browser::Browser, installation::Installation};

async fn of(role: Role) -> (Installation, Browser, buildit_tests::browser::Page) {
    let installation = Installation::start().await;
    let browser = Browser::start().await;
    let session = installation.session(role, false).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    (installation, browser, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_invited_joins_and_gets_another_role() {
    let (installation, browser, page) = of(Role::Owner).await;
    page.open("/settings/members").await;
    page.fill("input[name=email]", "grace@example.org").await;
    page.follow("form[action='/settings/members'] button").await;
    let link = page.text("#made").await;
    page.pictures("settings-members").await;

    let guest = browser.page(&installation.url, None).await;
    guest.open(&link).await;
    guest.shows("owner@example.org invites grace@example.org as developer").await;
    guest.pictures("join").await;
    guest.fill("input[name=name]", "Grace").await;
    guest.fill("input[name=password]", "a long enough one").await;
    guest.follow("main button").await;
    guest.shows("No project yet").await;

    page.open("/settings/members").await;
    page.eval("document.querySelector('select[aria-label=\"Role of grace@example.org\"]').value = 'viewer'").await;
    page.eval("document.querySelector('select[aria-label=\"Role of grace@example.org\"]').closest('form').querySelector('button').id = 'set'").await;
    page.follow("#set").await;
    guest.open("/settings").await;
    assert!(guest.text("#organizations tbody").await.contains("viewer"));
    guest.open("/settings/members").await;
    guest.shows("You may not do that").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_serves_and_is_revoked() {
    let (installation, _browser, page) = of(Role::Owner).await;
    page.open("/settings/keys").await;
    page.fill("input[name=name]", "nightly report").await;
    page.follow("form[action='/settings/keys'] button").await;
    let key = page.text("#made").await;
    let asks = async || {
        let url = format!("{}/api/v1/projects", installation.url);
        client().get(url).bearer_auth(&key).send().await.unwrap().status().as_u16()
    };
    assert_eq!(asks().await, 200);
    page.pictures("settings-keys").await;
    page.open("/settings/keys").await;
    assert_eq!(page.text("#made").await, "");
    page.eval("window.confirm = () => true; document.querySelector('form[action$=\"/revoke\"] button').id = 'revoke'")
        .await;
    page.follow("#revoke").await;
    page.shows("revoked").await;
    assert_eq!(asks().await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_its_sessions_and_its_password() {
    let (installation, browser, _page) = of(Role::Owner).await;
    let link = installation.welcome("ada@example.org", Role::Developer).await;
    let page = browser.page(&installation.url, None).await;
    page.open(&link).await;
    page.fill("input[name=password]", "a long enough one").await;
    page.follow("main button").await;
    page.open("/settings").await;
    page.shows("this one").await;
    page.fill("input[name=current]", "not that one at all").await;
    page.fill("input[name=new]", "another long one").await;
    page.follow("form[action='/settings/password'] button").await;
    page.until("document.querySelector('[role=alert]') !== null").await;
    page.fill("input[name=current]", "a long enough one").await;
    page.fill("input[name=new]", "another long one").await;
    page.follow("form[action='/settings/password'] button").await;
    page.shows("The password is changed").await;
    page.pictures("settings-account").await;
}
