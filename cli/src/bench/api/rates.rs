//! How much the API does in a second: sign-ins, runs started, lists.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use buildit_shared::{
    db::{organizations, users},
    password,
    permission::Role,
};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use sqlx::PgPool;

use super::{
    client::{Caller, timed},
    server::Server,
};
use crate::bench::{measure::percentiles, print};

const PASSWORD: &str = "correct horse battery";

pub(super) async fn rates(pool: &PgPool, database_url: &str, concurrency: usize, seconds: u64) -> anyhow::Result<()> {
    let server = Server::start(database_url).await?;
    let caller = Caller::new(pool, &server.url).await?;
    // More than one, since few wrong passwords at once are taken for an account from one address; and nobody from elsewhere.
    let mut accounts = Vec::new();
    for number in 0..concurrency {
        let email = format!("bench-{number}@example.org");
        let user = users::ensure(pool, &email, "bench").await?;
        organizations::ensure_member(pool, caller.organization, user, Role::Viewer).await?;
        users::set_password(pool, user, &password::hash(PASSWORD.into(), &email).await?).await?;
        accounts.push(json!({ "email": email, "password": PASSWORD }));
    }
    let names: Vec<String> =
        sqlx::query_scalar("select name from projects where organization_id = $1 order by random() limit 1000")
            .bind(caller.organization.uuid())
            .fetch_all(pool)
            .await?;
    anyhow::ensure!(!names.is_empty(), "no project: fill the database first");
    let project = |turn: usize| names.get(turn % names.len()).map_or("", String::as_str);
    let lasting = Duration::from_secs(seconds);
    let measure = async |what: &str, request: &(dyn Fn(usize) -> RequestBuilder + Sync)| {
        let before = server.cpu_ms();
        let began = Instant::now();
        let times = hammer(concurrency, lasting, request).await?;
        let secs = began.elapsed().as_secs_f64();
        let n = times.len();
        let cpu = (server.cpu_ms() - before) as f64;
        let mut line = percentiles(times);
        line["what"] = json!(what);
        line["n"] = json!(n);
        line["per_s"] = json!(n as f64 / secs);
        line["api_cpu_ms_each"] = json!(cpu / n.max(1) as f64);
        line["concurrency"] = json!(concurrency);
        print(&line)
    };
    measure("sign-in", &|turn| {
        caller.by_nobody(Method::POST, "/api/v1/session").json(&accounts[turn % accounts.len()])
    })
    .await?;
    measure("list of a project's runs", &|turn| {
        caller.by_key(Method::GET, &format!("/api/v1/projects/{}/runs", project(turn)))
    })
    .await?;
    measure("list of all runs", &|_| caller.by_key(Method::GET, "/api/v1/runs")).await?;
    measure("start of a run", &|turn| {
        caller.by_key(Method::POST, &format!("/api/v1/projects/{}/runs", project(turn))).json(&json!({ "ref": "main" }))
    })
    .await?;
    let (memory_mb, peak_mb) = server.memory_mb()?;
    print(&json!({ "api_memory_mb": memory_mb, "api_peak_mb": peak_mb }))
}

/// So many at once for so long: how long each took, in nanoseconds.
async fn hammer(
    concurrency: usize,
    lasting: Duration,
    request: &(dyn Fn(usize) -> RequestBuilder + Sync),
) -> anyhow::Result<Vec<u64>> {
    let turn = Arc::new(AtomicUsize::new(0));
    let end = Instant::now() + lasting;
    let one = async || -> anyhow::Result<Vec<u64>> {
        let mut times = Vec::new();
        while Instant::now() < end {
            times.push(timed(request(turn.fetch_add(1, Ordering::Relaxed))).await?);
        }
        Ok(times)
    };
    let all = futures::future::try_join_all((0..concurrency).map(|_| one())).await?;
    Ok(all.into_iter().flatten().collect())
}
