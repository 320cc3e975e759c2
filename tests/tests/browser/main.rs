//! The pages, in a real browser. Pictures of what they look like are kept where `BUILDIT_TEST_PICTURES` says.

#![allow(clippy::unwrap_used)]

mod access;
mod account;
mod artifacts;
mod barriers;
mod fleet;
mod log;
mod organization;
mod project_settings;
mod projects;
mod run;
mod settings;
mod wizard;

use buildit_shared::permission::Role;
use buildit_tests::{
    browser::{Browser, Page},
    installation::{Installation, Worker},
};

/// An installation with a worker, a browser, and the page of its owner, who operates it too.
async fn started() -> (Installation, Worker, Browser, Page) {
    let installation = Installation::start().await;
    let worker = installation.worker();
    let browser = Browser::start().await;
    let session = installation.session(Role::Owner, true).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    (installation, worker, browser, page)
}

/// A pipeline file of one step with these commands.
fn one_step(commands: &[&str]) -> String {
    let commands: String =
        commands.iter().map(|command| format!("\n        - {}", serde_json::json!(command))).collect();
    format!("pipeline:\n  steps:\n    - name: test\n      image: debian:bookworm-slim\n      commands:{commands}\n")
}
