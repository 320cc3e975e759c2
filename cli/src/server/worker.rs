//! `buildit worker`: claims jobs and does the work.

use std::io::ErrorKind;

use anyhow::Context;
use tokio::net::TcpListener;

use super::{install_metrics, log_to_stderr, serve, work};
use crate::{
    arguments::Worker,
    config::Settings,
    exit::{Exit, Problem},
};

/// Where a worker tells how it is, unless it was told where.
const LISTEN: &str = "127.0.0.1:30081";
/// Any port that is free.
const FREE: &str = "127.0.0.1:0";

pub(crate) fn run(arguments: &Worker) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.serving.config.as_deref(), arguments.flags())?;
    log_to_stderr(&settings, "info")?;
    serve(|shutdown| async move {
        let metrics = install_metrics()?;
        let health = bind_health(&settings).await?.map(|listener| (listener, metrics));
        work(&settings, health, shutdown).await
    })?;
    Ok(Exit::Success)
}

/// The socket for `/healthz`, `/readyz` and `/metrics`. An address that was asked for must be had; of several workers on
/// one machine that were told nothing, each has one.
pub(super) async fn bind_health(settings: &Settings) -> Result<Option<TcpListener>, Problem> {
    let listener = match settings.worker_listen.as_deref() {
        Some("off") => return Ok(None),
        Some(address) => TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address} for /healthz, /readyz and /metrics; is another worker there? Name another \
                 address by --listen or BUILDIT_WORKER_LISTEN: port 0 takes a free one, `off` none"
            )
        })?,
        None => match TcpListener::bind(LISTEN).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                tracing::warn!("{LISTEN} is taken, maybe by another worker: a free port serves instead");
                TcpListener::bind(FREE).await.with_context(|| format!("cannot listen on {FREE}"))?
            }
            bound => bound.with_context(|| format!("cannot listen on {LISTEN}"))?,
        },
    };
    tracing::info!("serving /healthz, /readyz and /metrics at http://{}", listener.local_addr()?);
    Ok(Some(listener))
}
