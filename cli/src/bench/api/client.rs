//! Who asks: a key and a person of the organization that is measured.

use std::time::Instant;

use anyhow::{Context, ensure};
use buildit_shared::{
    db::{
        api_keys::{self, NewKey},
        organizations, sessions, users,
    },
    ids::OrganizationId,
    permission::{Permission, Role},
};
use reqwest::{Client, header, redirect};
use sqlx::PgPool;

use super::fill::ORGANIZATION;

/// The person's address.
const EMAIL: &str = "bench@example.org";

/// A client that follows no redirect.
pub(super) fn http() -> anyhow::Result<Client> {
    // The second one of a process changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    Ok(Client::builder().redirect(redirect::Policy::none()).no_proxy().build()?)
}

/// Somebody who may do everything.
#[derive(Clone)]
pub(super) struct Caller {
    client: Client,
    pub(super) url: String,
    pub(super) organization: OrganizationId,
    key: String,
    cookie: String,
}

impl Caller {
    /// Makes a key and a session for the organization that was filled.
    pub(super) async fn new(pool: &PgPool, url: &str) -> anyhow::Result<Self> {
        let mut connection = pool.acquire().await?;
        let organization = organizations::ensure(&mut connection, ORGANIZATION).await?;
        let new = NewKey {
            organization_id: organization,
            name: "bench",
            permissions: &Permission::ALL,
            project_id: None,
            user_id: None,
            created_by: None,
            expires_at: None,
        };
        let key = api_keys::create(pool, new).await?.plain;
        let user = users::ensure(pool, EMAIL, "bench").await?;
        organizations::ensure_member(pool, organization, user, Role::Owner).await?;
        users::make_operator(pool, user).await?;
        let session = sessions::create(pool, user, "bench", None).await?;
        let cookie = format!("buildit_session={}", session.token);
        Ok(Self { client: http()?, url: url.to_owned(), organization, key, cookie })
    }

    /// A request by the key.
    pub(super) fn by_key(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    /// A request by nobody.
    pub(super) fn by_nobody(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A page, as a browser asks for it.
    pub(super) fn page(&self, path: &str) -> reqwest::RequestBuilder {
        let get = self.client.get(format!("{}{path}", self.url)).header(header::ACCEPT, "text/html");
        get.header(header::COOKIE, &self.cookie).header("sec-fetch-site", "same-origin")
    }
}

/// Sends it and reads the whole answer: how long that took, in nanoseconds.
pub(super) async fn timed(request: reqwest::RequestBuilder) -> anyhow::Result<u64> {
    let began = Instant::now();
    let answer = request.send().await?;
    let (status, url) = (answer.status(), answer.url().clone());
    let body = answer.bytes().await?;
    let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    ensure!(
        status.is_success() || status.is_redirection(),
        "{url}: {status} {}",
        String::from_utf8_lossy(&body[..body.len().min(300)])
    );
    Ok(took)
}

/// The JSON of an answer.
pub(super) async fn json(request: reqwest::RequestBuilder) -> anyhow::Result<serde_json::Value> {
    let answer = request.send().await?.error_for_status()?;
    answer.json().await.context("no JSON")
}
