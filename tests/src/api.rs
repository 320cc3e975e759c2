//! The API on a port of its own, with an organization, keys and rows as a run in progress leaves them.

use std::path::PathBuf;

use buildit_api::{Config, OidcSettings};
use buildit_shared::{
    attempt_token::AttemptTokens,
    db::{
        api_keys::{self, NewKey},
        organizations, sessions, users,
    },
    ids::{AttemptId, JobId, OrganizationId, ProjectId, RunId, StepId, UserId},
    link_token::LinkTokens,
    password,
    permission::{Permission, Role},
    queue::{Notifier, Signal, Signals},
    storage::{Signer, Storage},
    vault::Vault,
};
use reqwest::{Method, RequestBuilder, header, redirect};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::database::Database;

/// The installation's secret.
const SECRET: &[u8] = b"a secret";

/// The password of [`Api::signed_in`].
pub const PASSWORD: &str = "correct horse battery";
/// What secrets are sealed under.
pub const SECRETS_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Bytes that are kept of an attempt's log.
const LOG_LIMIT: u64 = 1 << 20;
/// Bytes that an attempt may store, altogether.
pub const UPLOAD_LIMIT: u64 = 20 << 20;

/// A running API.
#[derive(Debug)]
pub struct Api {
    /// Its address, without a slash at the end.
    pub url: String,
    /// Its database.
    pub database: Database,
    /// Its object store.
    pub storage: Storage,
    /// A folder below which repositories may be.
    pub repositories: PathBuf,
    /// The organization of `key`.
    pub organization: OrganizationId,
    /// A key with all permissions.
    pub key: String,
    /// Stops it.
    pub shutdown: CancellationToken,
    /// Ends when it has stopped.
    pub served: Option<JoinHandle<std::io::Result<()>>>,
    client: reqwest::Client,
    notifier: Notifier,
    _folder: TempDir,
}

/// A run with one step at work.
#[derive(Clone, Copy, Debug)]
pub struct RunningStep {
    /// The run.
    pub run: RunId,
    /// Its step `test`.
    pub step: StepId,
    /// The step's last attempt.
    pub attempt: AttemptId,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Api {
    /// Starts one with an organization `acme`.
    pub async fn start() -> Self {
        Self::on(None, None).await
    }

    /// Starts one whose objects are in that store.
    pub async fn with_storage(storage: Storage) -> Self {
        Self::on(Some(storage), None).await
    }

    /// Starts one that people sign in to by that provider too.
    pub async fn with_oidc(settings: OidcSettings) -> Self {
        Self::on(None, Some(settings)).await
    }

    async fn on(storage: Option<Storage>, oidc: Option<OidcSettings>) -> Self {
        // It sets TLS up, which the API needs as well.
        let client = client();
        let database = Database::new().await;
        let folder = tempfile::tempdir().expect("a folder");
        let repositories = folder.path().join("repositories");
        std::fs::create_dir(&repositories).expect("a folder for repositories");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let signer = Signer::new(url.parse().expect("an address"), SECRET);
        let storage =
            storage.unwrap_or_else(|| Storage::files(&folder.path().join("objects"), signer).expect("a store"));
        let config = Config {
            pool: database.pool.clone(),
            runners: database.pool.clone(),
            signals: Signals::listen(&database.url).expect("an address of Postgres"),
            storage: storage.clone(),
            log_limit: LOG_LIMIT,
            upload_limit: UPLOAD_LIMIT,
            attempt_tokens: AttemptTokens::new(SECRET),
            link_tokens: LinkTokens::new(SECRET),
            public_url: url.parse().expect("an address"),
            repository_roots: vec![repositories.clone()],
            vault: Some(Vault::new(SECRETS_KEY, []).expect("a key")),
            oidc,
            trusted_proxies: 0,
            metrics: None,
        };
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(buildit_api::serve(listener, config, shutdown.clone()));
        let (organization, key) = organization(&database.pool, "acme").await;
        Self {
            url,
            notifier: Notifier::new(database.pool.clone()),
            database,
            storage,
            repositories,
            organization,
            key,
            shutdown,
            served: Some(served),
            client,
            _folder: folder,
        }
    }

    /// A request with the key of all permissions.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.key)
    }

    /// A request without a key. Redirects are not followed.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        self.client.request(method, url)
    }

    /// `POST` by a runner of an attempt, with the status and the JSON of the answer.
    pub async fn post_as_runner(&self, attempt: AttemptId, runner: &str, path: &str, body: Value) -> (u16, Value) {
        let token = AttemptTokens::new(SECRET).token(attempt);
        let path = format!("/api/v1/attempts/{attempt}/{path}");
        let request = self.anonymous(Method::POST, &path).bearer_auth(token).header("x-buildit-runner", runner);
        answer(request.json(&body)).await
    }

    /// `GET`, with the status and the JSON of the answer.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// `POST`, with the status and the JSON of the answer.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).json(&body)).await
    }

    /// A key of `organization` with these permissions.
    pub async fn key(&self, organization: OrganizationId, permissions: &[Permission]) -> String {
        self.key_for(organization, permissions, None).await
    }

    /// A key that is bound to a project, if one is given.
    pub async fn key_for(
        &self,
        organization_id: OrganizationId,
        permissions: &[Permission],
        project_id: Option<ProjectId>,
    ) -> String {
        let new = NewKey {
            organization_id,
            name: "test",
            permissions,
            project_id,
            user_id: None,
            created_by: None,
            expires_at: None,
        };
        api_keys::create(&self.database.pool, new).await.expect("a key").plain
    }

    /// Another organization, with a key of all permissions but the fleet's.
    pub async fn stranger(&self) -> (OrganizationId, String) {
        organization(&self.database.pool, "strangers").await
    }

    /// Makes an account without a password, and a member of `organization` if a role is given.
    pub async fn account(&self, email: &str, role: Option<Role>) -> UserId {
        let name = email.split('@').next().unwrap_or_default();
        let user = users::ensure(&self.database.pool, email, name).await.expect("an account");
        if let Some(role) = role {
            let made = organizations::ensure_member(&self.database.pool, self.organization, user, role).await;
            made.expect("a membership");
        }
        user
    }

    /// Makes an account with the password of all tests, and signs it in: the cookie.
    pub async fn signed_in(&self, email: &str, role: Role) -> String {
        let user = self.account(email, Some(role)).await;
        let hash = password::hash(PASSWORD.into(), email).await.expect("a hash");
        users::set_password(&self.database.pool, user, &hash).await.expect("a password");
        self.sign_in(email).await
    }

    /// Signs an account in once more: the cookie.
    pub async fn sign_in(&self, email: &str) -> String {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.anonymous(Method::POST, "/api/v1/session").json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 204, "{email} signs in");
        let cookie = answer.headers()[header::SET_COOKIE].to_str().expect("a cookie");
        cookie.split(';').next().unwrap_or_default().to_owned()
    }

    /// A session of somebody, however they got in: the cookie.
    pub async fn session(&self, user: UserId) -> String {
        let created = sessions::create(&self.database.pool, user, "a test", None).await.expect("a session");
        format!("buildit_session={}", created.token)
    }

    /// A request as a page of ours sends it for somebody who is signed in.
    pub fn as_person(&self, method: Method, path: &str, cookie: &str) -> RequestBuilder {
        self.anonymous(method, path).header(header::COOKIE, cookie).header("sec-fetch-site", "same-origin")
    }

    /// Makes a project and returns its id.
    pub async fn project(&self, name: &str) -> String {
        let repository = format!("https://git.example/{name}.git");
        let (status, project) = self.post("/api/v1/projects", json!({ "name": name, "repository": repository })).await;
        assert_eq!(status, 201, "{project}");
        project["id"].as_str().expect("an id").to_owned()
    }

    /// A run of `project` whose step `test` has an attempt at work.
    pub async fn running_step(&self, project: &str) -> RunningStep {
        let (status, started) = self.post(&format!("/api/v1/projects/{project}/runs"), json!({ "ref": "main" })).await;
        assert_eq!(status, 201, "{started}");
        let run: RunId = started["id"].as_str().expect("an id").parse().expect("an id");
        let step = StepId::new();
        sqlx::query("update pipeline_runs set status = 'running', started_at = now(), open_steps = 1 where id = $1")
            .bind(run)
            .execute(&self.database.pool)
            .await
            .expect("a running run");
        sqlx::query(
            "insert into pipeline_steps (id, organization_id, project_id, run_id, name, step_order, image, status, plan,
                                         started_at)
             select $1, organization_id, project_id, id, 'test', 0, 'busybox', 'running', '{}', now()
             from pipeline_runs where id = $2",
        )
        .bind(step)
        .bind(run)
        .execute(&self.database.pool)
        .await
        .expect("a step");
        let attempt = self.attempt(step, 1).await;
        RunningStep { run, step, attempt }
    }

    /// Carries out a statement that changes the run, and tells those who wait for that.
    pub async fn change(&self, run: RunId, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.database.pool).await.expect("a change");
        self.notifier.send(Signal::Run(run));
    }

    /// Another attempt at a step.
    pub async fn attempt(&self, step: StepId, number: i32) -> AttemptId {
        let attempt = AttemptId::new();
        sqlx::query(
            "insert into step_attempts (id, organization_id, run_id, step_id, number, job_id, status, started_at)
             select $1, organization_id, run_id, id, $3, $4, 'running', now() from pipeline_steps where id = $2",
        )
        .bind(attempt)
        .bind(step)
        .bind(number)
        .bind(JobId::new())
        .execute(&self.database.pool)
        .await
        .expect("an attempt");
        attempt
    }

    /// Adds to an attempt's log, as a worker does.
    pub async fn append(&self, attempt: AttemptId, bytes: &[u8]) {
        sqlx::query(
            "with grown as (
                 update step_attempts set log_len = log_len + length($2::bytea) where id = $1 returning log_len)
             insert into step_log_chunks (attempt_id, start, bytes) select $1, log_len - length($2), $2 from grown",
        )
        .bind(attempt)
        .bind(bytes)
        .execute(&self.database.pool)
        .await
        .expect("a chunk");
        self.notifier.send(Signal::Log(attempt));
    }

    /// Ends an attempt; its whole log becomes an object, and the chunks go.
    pub async fn end_attempt(&self, attempt: AttemptId, status: &str) {
        let rows: Vec<(Vec<u8>,)> =
            sqlx::query_as("select bytes from step_log_chunks where attempt_id = $1 order by start")
                .bind(attempt)
                .fetch_all(&self.database.pool)
                .await
                .expect("the chunks");
        let log: Vec<u8> = rows.into_iter().flat_map(|(bytes,)| bytes).collect();
        let key = format!("logs/attempts/{attempt}.log");
        self.storage.put(&key, log).await.expect("the stored log");
        sqlx::query(
            "with ended as (update step_attempts set status = $2::attempt_status, finished_at = now(), log_ref = $3
                            where id = $1)
             delete from step_log_chunks where attempt_id = $1",
        )
        .bind(attempt)
        .bind(status)
        .bind(key)
        .execute(&self.database.pool)
        .await
        .expect("an ended attempt");
        self.notifier.send(Signal::Log(attempt));
    }

    /// Ends a step whose attempts have ended.
    pub async fn end_step(&self, at: RunningStep, status: &str) {
        sqlx::query("update pipeline_steps set status = $2::step_status, finished_at = now() where id = $1")
            .bind(at.step)
            .bind(status)
            .execute(&self.database.pool)
            .await
            .expect("an ended step");
        self.notifier.send(Signal::Run(at.run));
    }
}

/// The status and the JSON of the answer; null where it has none.
pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

async fn organization(pool: &PgPool, name: &str) -> (OrganizationId, String) {
    let mut connection = pool.acquire().await.expect("a connection");
    let id = organizations::ensure(&mut connection, name).await.expect("an organization");
    let permissions: Vec<_> = Permission::ALL
        .into_iter()
        .filter(|permission| name == "acme" || *permission != Permission::FleetAdmin)
        .collect();
    let new = NewKey {
        organization_id: id,
        name: "all",
        permissions: &permissions,
        project_id: None,
        user_id: None,
        created_by: None,
        expires_at: None,
    };
    (id, api_keys::create(pool, new).await.expect("a key").plain)
}

/// A client that follows no redirect.
pub fn client() -> reqwest::Client {
    // One for all tests of a process; the second installation is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy().build().expect("a client")
}
