//! The serving commands: `up`, `api`, `worker`, `token`, and what they share.

mod account;
mod api;
mod executor;
mod first_start;
mod follow;
mod pushes;
mod sample;
mod secrets;
mod token;
mod up;
mod worker;

pub(crate) use account::run as run_account;
pub(crate) use api::run as run_api;
pub(crate) use first_start::ORGANIZATION;
pub(crate) use secrets::rotate as rotate_secrets;
pub(crate) use token::run as run_token;
pub(crate) use up::run as run_up;
use worker::bind_health;
pub(crate) use worker::run as run_worker;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use buildit_shared::{
    attempt_token::AttemptTokens,
    db::{self, Use},
    link_token::LinkTokens,
    queue::Signals,
    storage::{Signer, Storage},
};
use buildit_worker::{
    Health, Keep, Recent, Repositories,
    jobs::{Context, registry},
    keep_house, keep_time, serve_health,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sqlx::PgPool;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    config::{LogFormat, Settings, StorageKind},
    exit::Problem,
};

/// How long a start waits for the object store's answer.
const STORAGE_CHECK: Duration = Duration::from_secs(10);

/// The most connections that a worker's handlers share.
const MOST_CONNECTIONS: usize = 16;

/// One press of Ctrl-C comes several times where a program around this one passes it on besides the terminal.
const ONE_PRESS: Duration = Duration::from_secs(1);

/// Runs `work` on all cores; the token is cancelled by the first SIGTERM or Ctrl-C, a later one ends the process.
fn serve<F>(work: impl FnOnce(CancellationToken) -> F) -> Result<(), Problem>
where
    F: Future<Output = Result<(), Problem>>,
{
    // The second one of a process changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = CancellationToken::new();
        let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let asked = shutdown.clone();
        tokio::spawn(async move {
            let mut first: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                }
                match first {
                    None => {
                        tracing::info!("stopping; once more ends at once");
                        first = Some(Instant::now());
                        asked.cancel();
                    }
                    Some(first) if first.elapsed() < ONE_PRESS => {}
                    Some(_) => std::process::exit(130),
                }
            }
        });
        work(shutdown).await
    })
}

/// Logs go to standard error, so that standard output stays for what was asked for.
fn log_to_stderr(settings: &Settings, default: &str) -> Result<(), Problem> {
    let filter = settings.log.as_deref().unwrap_or(default);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("`log` is {filter:?}, which is no filter such as `info` or `buildit_worker=debug`"))
        .map_err(Problem::usage)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails only where a subscriber is set already, which then stays.
    let _ = match settings.log_format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_target(false).try_init(),
    };
    Ok(())
}

/// How often what was measured is folded into what `/metrics` shows; otherwise it would pile up where nobody asks.
const FOLD: Duration = Duration::from_secs(5);

/// The process's metrics, for `/metrics`.
fn install_metrics() -> Result<PrometheusHandle, Problem> {
    let metrics = PrometheusBuilder::new().install_recorder().context("the metrics cannot be set up")?;
    let folded = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FOLD).await;
            folded.run_upkeep();
        }
    });
    Ok(metrics)
}

/// The object store. One that is away is waited for by whatever needs it; one that can never be used is a mistake in the
/// settings.
async fn storage(settings: &Settings) -> Result<Storage, Problem> {
    let storage = match settings.storage.kind {
        StorageKind::Files => {
            let folder = settings.data_dir()?.join("objects");
            let signer = Signer::new(settings.public_url()?, settings.signing_key()?.as_bytes());
            Storage::files(&folder, signer)
                .with_context(|| format!("cannot open the object store in {}", folder.display()))?
        }
        StorageKind::S3 => Storage::s3(settings.storage.s3()?).map_err(Problem::usage)?,
    };
    match tokio::time::timeout(STORAGE_CHECK, storage.check()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if !error.is_passing() => return Err(Problem::usage(error)),
        Ok(Err(error)) => tracing::warn!(%error, "starting without it; what needs it waits"),
        Err(_) => tracing::warn!("the object store does not answer; starting without it, and what needs it waits"),
    }
    Ok(storage)
}

/// The API until `shutdown`.
async fn serve_api(
    settings: &Settings,
    listener: TcpListener,
    public_url: Url,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> Result<(), Problem> {
    let url = settings.database_url()?;
    let oidc = settings.oidc.provider()?;
    let storage = storage(settings).await?;
    let (pool, runners) = (connect(url, Use::Api, 20).await?, connect(url, Use::Runners, 8).await?);
    let signals = Signals::listen(url).map_err(Problem::usage)?;
    let config = buildit_api::Config {
        pool: pool.clone(),
        runners: runners.clone(),
        signals: signals.clone(),
        storage,
        attempt_tokens: AttemptTokens::new(settings.signing_key()?.as_bytes()),
        link_tokens: LinkTokens::new(settings.signing_key()?.as_bytes()),
        vault: settings.vault()?,
        oidc,
        log_limit: u64::from(settings.log_limit_mib) << 20,
        upload_limit: u64::from(settings.upload_limit_mib) << 20,
        public_url,
        repository_roots: settings.repository_roots.clone(),
        trusted_proxies: settings.trusted_proxies,
        metrics: Some(metrics),
    };
    buildit_api::serve(listener, config, shutdown).await.context("the API ended")?;
    db::close(&[&pool, &runners, signals.pool()]).await;
    Ok(())
}

/// One worker until `shutdown`, which answers there how it is.
async fn work(
    settings: &Settings,
    health: Option<(TcpListener, PrometheusHandle)>,
    shutdown: CancellationToken,
) -> Result<(), Problem> {
    let url = settings.database_url()?;
    let storage = storage(settings).await?;
    let slots = settings.slots();
    // Statements are short, and each connection has to learn all of them.
    let connections = u32::try_from(slots.values().sum::<usize>().clamp(4, MOST_CONNECTIONS)).unwrap_or(u32::MAX);
    let pool = connect(url, Use::Worker, connections).await?;
    let logs = connect(url, Use::Logs, connections.min(4)).await?;
    let data = settings.data_dir()?;
    let signals = Signals::listen(url).map_err(Problem::usage)?;
    let context = Context {
        pool: pool.clone(),
        logs: logs.clone(),
        storage,
        vault: settings.vault()?,
        executor: executor::executor(settings, &data, &pool, &signals).await?,
        repositories: Repositories {
            folder: data.join("mirrors"),
            roots: settings.repository_roots.clone(),
            recent: Recent::default(),
        },
        egress: settings.egress()?,
        public_url: settings.public_url()?,
        registry: settings.registry.clone(),
        log_limit_bytes: u64::from(settings.log_limit_mib) << 20,
        scratch: data.join("scratch"),
        crowded: Arc::default(),
        stopping: shutdown.clone(),
    };
    let options = buildit_worker::Options {
        database_url: url.to_owned(),
        pool: pool.clone(),
        signals: signals.clone(),
        host: host_name(),
        slots,
    };
    let keep = Keep { history_days: settings.history_days, outputs_days: settings.outputs_days.into() };
    let house = tokio::spawn(keep_house(Arc::new(context.clone()), keep, shutdown.clone()));
    let clock = tokio::spawn(keep_time(context.pool.clone(), shutdown.clone()));
    let state = Health::default();
    let left = CancellationToken::new();
    let answers =
        health.map(|(listener, metrics)| tokio::spawn(serve_health(listener, state.clone(), metrics, left.clone())));
    buildit_worker::run_watched(options, registry(context), state, shutdown).await?;
    left.cancel();
    if let Some(answers) = answers {
        answers.await?.context("the worker's health cannot be told any more")?;
    }
    house.await?;
    clock.await?;
    db::close(&[&pool, &logs, signals.pool()]).await;
    Ok(())
}

async fn connect(url: &str, usage: Use, most: u32) -> Result<PgPool, Problem> {
    db::connect(url, usage, most).await.context("cannot reach the database").map_err(Problem::unreachable)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where attempts live. Steps of a worker that is root run as another user, who must get there: where the data folder lies
/// below one that is closed to others (`/root`), they get a folder of their own.
fn steps_folder(data: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let open = |folder: &Path| folder.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    if !rustix::process::geteuid().is_root() || data.ancestors().all(open) {
        return data.join("steps");
    }
    let name = data.to_string_lossy().replace('/', "-");
    Path::new("/var/lib/buildit/steps").join(name.trim_start_matches('-'))
}
