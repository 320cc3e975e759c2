//! `buildit api`: the HTTP API.

use anyhow::Context;
use tokio::net::TcpListener;

use super::{install_metrics, log_to_stderr, serve, serve_api};
use crate::{
    arguments::Api,
    config::Settings,
    exit::{Exit, Problem},
};

pub(crate) fn run(arguments: &Api) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.serving.config.as_deref(), arguments.flags())?;
    log_to_stderr(&settings, "info")?;
    serve(|shutdown| async move {
        let metrics = install_metrics()?;
        let listener = TcpListener::bind(&settings.listen).await.with_context(|| {
            format!("cannot listen on {}; is another program there? Name another by --listen", settings.listen)
        })?;
        let url = settings.public_url()?;
        tracing::info!(%url, "the API answers");
        serve_api(&settings, listener, url, metrics, shutdown).await
    })?;
    Ok(Exit::Success)
}
