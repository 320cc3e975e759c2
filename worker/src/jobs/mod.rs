//! The handlers, one file for each kind of job, and what they share.

mod publish;
mod run_pipeline;
mod run_step;
mod secrets;
mod step_end;
mod step_spec;
mod upload_artifacts;

use std::{path::PathBuf, sync::Arc};

use buildit_shared::{
    jobs::{RunPipeline, RunStep, UploadArtifacts},
    storage::Storage,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{executor::Executor, git::Repositories, registry::Registry};

/// What handlers work with.
#[derive(Clone, Debug)]
pub struct Context {
    /// For domain changes.
    pub pool: PgPool,
    /// For log chunks, whose commits do not wait for the disk.
    pub logs: PgPool,
    /// Objects.
    pub storage: Storage,
    /// Where steps run.
    pub executor: Arc<dyn Executor>,
    /// Where commits come from.
    pub repositories: Repositories,
    /// The image registry that steps push to and deployments name.
    pub registry: String,
    /// Bytes of a step's log that are kept.
    pub log_limit_bytes: u64,
    /// Folder for short-lived files.
    pub scratch: PathBuf,
    /// Handlers that wait return once this is cancelled; what they waited for goes on.
    pub stopping: CancellationToken,
}

/// All handlers of the product.
pub fn registry(context: Context) -> Registry {
    let context = Arc::new(context);
    let (plan, step, publish) = (Arc::clone(&context), Arc::clone(&context), context);
    Registry::default()
        .with::<RunPipeline, _, _>(move |claim, args| run_pipeline::run(Arc::clone(&plan), claim, args))
        .with::<RunStep, _, _>(move |claim, args| run_step::run(Arc::clone(&step), claim, args))
        .with::<UploadArtifacts, _, _>(move |claim, args| upload_artifacts::run(Arc::clone(&publish), claim, args))
}

/// Keys of the objects that a run leaves.
pub(crate) mod keys {
    use buildit_shared::ids::{AttemptId, RunId};

    /// The packed commit.
    pub(crate) fn checkout(run: RunId) -> String {
        format!("checkouts/{run}.tar.zst")
    }

    /// Below it is all that steps leave for each other and for the run's end.
    pub(crate) fn staged(run: RunId) -> String {
        format!("staged/{run}")
    }

    /// Below it are the published files.
    pub(crate) fn artifacts(run: RunId) -> String {
        format!("artifacts/{run}")
    }

    /// Below it are the logs.
    pub(crate) fn logs(run: RunId) -> String {
        format!("logs/pipelines/{run}")
    }

    pub(super) fn outputs(run: RunId, attempt: AttemptId) -> String {
        format!("{}/{attempt}/outputs.tar.zst", staged(run))
    }

    pub(super) fn artifact(run: RunId, attempt: AttemptId, name: &str) -> String {
        format!("{}/{attempt}/artifacts/{name}.tar.zst", staged(run))
    }

    /// Of one attempt; immutable.
    pub(super) fn attempt_log(run: RunId, step: &str, number: i32) -> String {
        format!("{}/{step}.{number}.log", logs(run))
    }

    /// Of the step's last attempt.
    pub(super) fn log(run: RunId, step: &str) -> String {
        format!("{}/{step}.log", logs(run))
    }
}
