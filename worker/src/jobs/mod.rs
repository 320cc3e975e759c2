//! The handlers, one file for each kind of job, and what they share.

mod ahead;
mod deliver_webhook;
mod image_digest;
pub(crate) mod local_file;
mod look_at_repository;
mod outgoing;
mod phases;
mod publish;
mod report_status;
mod repository_key;
mod run_pipeline;
mod run_step;
mod secrets;
mod step_end;
mod step_spec;
mod upload_artifacts;

use std::{path::PathBuf, sync::Arc};

pub use ahead::Crowded;

use buildit_shared::{
    jobs::{DeliverWebhook, LookAtRepository, ReportStatus, RunPipeline, RunStep, UploadArtifacts},
    queue::JobError,
    storage::{self, Storage},
    vault::Vault,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{egress::Egress, executor::Executor, git::Repositories, registry::Registry};

/// What handlers work with.
#[derive(Clone, Debug)]
pub struct Context {
    /// For domain changes.
    pub pool: PgPool,
    /// For log chunks, whose commits do not wait for the disk.
    pub logs: PgPool,
    /// Objects.
    pub storage: Storage,
    /// What secrets are opened by; without it steps that need one are refused.
    pub vault: Option<Vault>,
    /// Where steps run.
    pub executor: Arc<dyn Executor>,
    /// Where commits come from.
    pub repositories: Repositories,
    /// Where what users name is sent.
    pub egress: Egress,
    /// The address that links name.
    pub public_url: Url,
    /// The image registry that steps push to and deployments name.
    pub registry: String,
    /// Bytes of a step's log that are kept.
    pub log_limit_bytes: u64,
    /// Folder for short-lived files.
    pub scratch: PathBuf,
    /// Whether there was no room lately where steps run.
    pub crowded: Arc<Crowded>,
    /// Handlers that wait return once this is cancelled; what they waited for goes on.
    pub stopping: CancellationToken,
}

/// All handlers of the product.
pub fn registry(context: Context) -> Registry {
    let context = Arc::new(context);
    let (plan, step, publish) = (Arc::clone(&context), Arc::clone(&context), Arc::clone(&context));
    let (tell, report, look) = (Arc::clone(&context), Arc::clone(&context), context);
    Registry::default()
        .with::<RunPipeline, _, _>(move |claim, args| run_pipeline::run(Arc::clone(&plan), claim, args))
        .with::<RunStep, _, _>(move |claim, args| run_step::run(Arc::clone(&step), claim, args))
        .with::<UploadArtifacts, _, _>(move |claim, args| upload_artifacts::run(Arc::clone(&publish), claim, args))
        .with::<DeliverWebhook, _, _>(move |claim, args| deliver_webhook::run(Arc::clone(&tell), claim, args))
        .with::<ReportStatus, _, _>(move |claim, args| report_status::run(Arc::clone(&report), claim, args))
        .with::<LookAtRepository, _, _>(move |claim, args| look_at_repository::run(Arc::clone(&look), claim, args))
}

/// What an error of the object store means for the job that wanted to store or fetch `what`.
fn stored(what: &'static str) -> impl Fn(storage::Error) -> JobError {
    move |error| {
        let message = format!("{what} cannot be stored or fetched: {error}");
        if error.is_passing() { JobError::Unavailable(message) } else { JobError::retry(message) }
    }
}
