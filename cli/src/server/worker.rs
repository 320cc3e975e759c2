//! `buildit worker`: claims jobs and does the work.

use super::{install_metrics, log_to_stderr, serve, work};
use crate::{
    arguments::Serving,
    config::Settings,
    exit::{Exit, Problem},
};

pub(crate) fn run(arguments: &Serving) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.config.as_deref(), arguments.flags())?;
    log_to_stderr(&settings, "info")?;
    install_metrics()?;
    serve(|shutdown| async move { work(&settings, shutdown).await })?;
    Ok(Exit::Success)
}
