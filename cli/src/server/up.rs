//! `buildit up`: everything on this machine, in one process.

use std::path::Path;

use anyhow::{Context, anyhow};
use buildit_postgres::{Lifetime, Postgres};
use buildit_shared::{
    db::{self, Scope, Use},
    domain::RunStatus,
    ids::OrganizationId,
    queue::Signals,
};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    bind_health, first_start, first_start::Home, follow, install_metrics, log_to_stderr, pushes, sample, serve,
    serve_api, work,
};
use crate::{
    arguments::Up,
    choice::Choice,
    config::{ExecutorKind, Settings, StorageKind},
    exit::{Exit, Problem},
};

pub(crate) fn run(arguments: &Up) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.api.serving.config.as_deref(), arguments.flags())?;
    log_to_stderr(&settings, "warn")?;
    serve(|shutdown| up(settings, arguments, shutdown))?;
    Ok(Exit::Success)
}

async fn up(mut settings: Settings, arguments: &Up, shutdown: CancellationToken) -> Result<(), Problem> {
    if settings.storage.kind != StorageKind::Files {
        return Err(Problem::usage(anyhow!(
            "`buildit up` keeps its objects in files; for an S3 start `buildit api` and `buildit worker`"
        )));
    }
    let metrics = install_metrics()?;
    let data = settings.data_dir()?;
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make the data folder {}", data.display()))?;
    let data = data.canonicalize()?;
    settings.data_dir = Some(data.clone());
    // First of all the port: another `up` on this machine must not touch a running one's data.
    let listener = TcpListener::bind(&settings.listen).await.with_context(|| {
        format!("cannot listen on {}; is BuildIt up already? Another address: --listen", settings.listen)
    })?;
    let url: Url = match &settings.public_url {
        Some(url) => url.clone(),
        None => format!("http://{}", listener.local_addr()?).parse()?,
    };
    settings.public_url = Some(url.clone());
    let health = match &settings.worker_listen {
        Some(_) => bind_health(&settings).await?,
        None => None,
    };
    let listeners = Listeners { api: listener, health };
    let choice = choose(&settings, &data).await?;
    println!("{}", choice.said);
    settings.executor = Some(choice.kind);
    let mut postgres = Postgres::start(&data.join("postgres"), Lifetime::Independent, &|line| println!("{line}"))
        .await
        .context("cannot start Postgres")?;
    settings.database_url = Some(postgres.url().to_owned());
    let result = with_database(settings, &data, listeners, url, arguments, metrics, shutdown).await;
    postgres.stop().await.context("Postgres did not stop; the next start deals with it")?;
    result
}

/// The executor: what was asked for, else the one that this data folder has, since steps that are at work are there.
async fn choose(settings: &Settings, data: &Path) -> Result<Choice, Problem> {
    let as_before = |kind| Ok(Choice::of(kind, &settings.docker, "as before; --executor changes it"));
    match (settings.executor, first_start::executor(data).as_deref()) {
        (Some(kind), _) => Choice::asked_for(kind, &settings.docker).await,
        (None, Some("docker")) => as_before(ExecutorKind::Docker),
        (None, Some(_)) => as_before(ExecutorKind::Local),
        (None, None) => Ok(Choice::by_looking(&settings.docker).await),
    }
}

/// The sockets of this process, bound before anything else is touched.
struct Listeners {
    api: TcpListener,
    health: Option<TcpListener>,
}

async fn with_database(
    mut settings: Settings,
    data: &Path,
    listeners: Listeners,
    url: Url,
    arguments: &Up,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> Result<(), Problem> {
    let database_url = settings.database_url()?.to_owned();
    let pool = db::connect(&database_url, Use::Api, 4).await.context("cannot reach our Postgres")?;
    db::migrate(&pool).await.context("cannot bring the database up to date")?;
    settings.signing_key = Some(first_start::key(data, "signing.key")?);
    if settings.secrets_key.is_none() {
        settings.secrets_key = Some(first_start::key(data, "secrets.key")?);
    }
    let repositories = data.join("repositories");
    std::fs::create_dir_all(&repositories)?;
    if !settings.repository_roots.contains(&repositories) {
        settings.repository_roots.push(repositories.clone());
    }
    let home = first_start::home(&pool, data, &url).await?;
    let env = write_env(&settings, data, &database_url, &url, &home.token)?;

    let stop = shutdown.child_token();
    let mut parts = JoinSet::new();
    {
        let (settings, url, metrics, stop) = (settings.clone(), url.clone(), metrics.clone(), stop.clone());
        parts.spawn(async move { serve_api(&settings, listeners.api, url, metrics, stop).await });
    }
    // One answers for all: they share this process and its figures.
    let mut health = listeners.health.map(|listener| (listener, metrics));
    for _ in 0..arguments.workers {
        let (settings, health, stop) = (settings.clone(), health.take(), stop.clone());
        parts.spawn(async move { work(&settings, health, stop).await });
    }
    let with_sample = !arguments.no_sample;
    let greeting = async {
        if let Err(error) = pushes::announce(&repositories).await {
            println!("Pushes that were kept cannot be announced: {error:#}");
        }
        if with_sample {
            show_sample(&pool, home.organization, data, &url, arguments.workers > 0).await?;
        }
        greet(data, &env, &url, &home, with_sample);
        std::future::pending::<anyhow::Result<()>>().await
    };
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Err(error) = greeting => Err(error.into()),
        Some(part) = parts.join_next() => match part {
            Ok(Ok(())) if shutdown.is_cancelled() => Ok(()),
            Ok(Ok(())) => Err(anyhow!("a part of BuildIt ended by itself").into()),
            Ok(Err(problem)) => Err(problem),
            Err(panic) => Err(panic.into()),
        },
    };
    stop.cancel();
    while let Some(part) = parts.join_next().await {
        part??;
    }
    db::close(&[&pool]).await;
    if ended.is_ok() {
        println!(
            "\nStopped. Everything is kept in {}; steps that were at work go on at the next start.",
            data.display()
        );
    }
    ended
}

fn write_env(
    settings: &Settings,
    data: &Path,
    database_url: &str,
    url: &Url,
    token: &str,
) -> anyhow::Result<std::path::PathBuf> {
    let roots: Vec<_> = settings.repository_roots.iter().map(|root| root.to_string_lossy()).collect();
    first_start::write_env(
        data,
        &[
            ("DATABASE_URL", database_url.to_owned()),
            ("BUILDIT_URL", url.as_str().trim_end_matches('/').to_owned()),
            ("BUILDIT_TOKEN", token.to_owned()),
            ("BUILDIT_PUBLIC_URL", url.to_string()),
            ("BUILDIT_DATA_DIR", data.to_string_lossy().into_owned()),
            ("BUILDIT_SIGNING_KEY", settings.signing_key.clone().unwrap_or_default()),
            ("BUILDIT_SECRETS_KEY", settings.secrets_key.clone().unwrap_or_default()),
            ("BUILDIT_REPOSITORY_ROOTS", serde_json::to_string(&roots)?),
            ("BUILDIT_REGISTRY", settings.registry.clone()),
            (first_start::EXECUTOR, settings.executor.map_or("local", ExecutorKind::name).to_owned()),
            ("BUILDIT_DOCKER_HOST", settings.docker.address()),
        ],
    )
}

/// Pushes the sample on the first start and follows its run, if somebody works here.
async fn show_sample(
    pool: &PgPool,
    organization: OrganizationId,
    data: &Path,
    url: &Url,
    worked_on: bool,
) -> anyhow::Result<()> {
    if !sample::prepare(pool, organization, data, url).await? {
        return Ok(());
    }
    println!("Pushing the sample project to {}", sample::repository(data).display());
    let folder = data.to_owned();
    tokio::task::spawn_blocking(move || sample::push(&folder)).await??;
    if !worked_on {
        println!("Its run waits for a worker.");
        return Ok(());
    }
    let signals = Signals::listen(&pool_url(pool))?;
    let run = loop {
        // The hook has delivered when the push returns; only a slow start of the API can make this wait.
        if let Some(run) = sample::first_run(pool, organization).await? {
            break run;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    println!("Run {url}runs/{run}");
    let started = std::time::Instant::now();
    let scope = Scope { organization, project: None };
    let status = follow::follow(pool, &signals, scope, run).await?;
    db::close(&[signals.pool()]).await;
    let word = if status == RunStatus::Success { "green" } else { status.name() };
    println!("\nThe sample's first run is {word} after {:.1} s.", started.elapsed().as_secs_f64());
    Ok(())
}

fn pool_url(pool: &PgPool) -> String {
    use sqlx::ConnectOptions;
    pool.connect_options().to_url_lossy().to_string()
}

fn greet(data: &Path, env: &Path, url: &Url, home: &Home, sample: bool) {
    let base = url.as_str().trim_end_matches('/');
    println!("\nBuildIt is up at {base}   (Ctrl-C stops it)\n");
    if let Some(welcome) = &home.welcome {
        println!("  sign in   {welcome}   # choose a password; once, today");
    }
    let token = &home.token;
    println!("  API key   {token}");
    println!("  try it    curl -H \"Authorization: Bearer {token}\" {base}/api/v1/projects");
    if sample {
        println!(
            "  push      git clone {} && cd {}   # change something, commit, git push",
            sample::repository(data).display(),
            sample::NAME
        );
    }
    println!("  worker    set -a; . {}; buildit worker   # one more worker", env.display());
    println!("  data      {}", data.display());
}
