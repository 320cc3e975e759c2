//! The kinds of jobs: one argument struct each, with the stable name it has in the database.
//!
//! Arguments hold ids and numbers only. Whoever adds a field gives it a default or raises `VERSION`: a worker that meets
//! arguments newer than it knows leaves the job to newer workers.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::ids::{AttemptId, CommitStatusId, DeliveryId, PipelineId, RunId, StepId};

/// Arguments of one kind of job.
pub trait JobArgs: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Stable name of the kind; never reused for something else.
    const KIND: &'static str;
    /// The queue that jobs of this kind wait in.
    const QUEUE: &'static str;
    /// Version of the arguments.
    const VERSION: u16 = 1;
    /// Claims that may fail before the job is dead.
    const MAX_ATTEMPTS: i32;
}

/// Fetch the commit, read the pipeline file, create the steps, enqueue the first ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPipeline {
    /// The run to plan.
    pub run_id: RunId,
}

impl JobArgs for RunPipeline {
    const KIND: &'static str = "RunPipeline";
    const QUEUE: &'static str = "pipelines";
    const MAX_ATTEMPTS: i32 = 8;
}

/// See what is in a repository, for whoever sets a pipeline up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookAtRepository {
    /// The pipeline that is set up.
    pub pipeline_id: PipelineId,
    /// Which question about it this one is.
    pub number: i32,
}

impl JobArgs for LookAtRepository {
    const KIND: &'static str = "LookAtRepository";
    const QUEUE: &'static str = "pipelines";
    const MAX_ATTEMPTS: i32 = 3;
}

/// Drive one attempt of a step to its end and advance the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStep {
    /// The run the step belongs to.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// The attempt, made in the transaction that enqueued this job.
    pub attempt_id: AttemptId,
}

impl JobArgs for RunStep {
    const KIND: &'static str = "RunStep";
    const QUEUE: &'static str = "steps";
    const MAX_ATTEMPTS: i32 = 12;
}

/// Publish what the steps staged and end the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadArtifacts {
    /// The run whose steps have all ended.
    pub run_id: RunId,
}

impl JobArgs for UploadArtifacts {
    const KIND: &'static str = "UploadArtifacts";
    const QUEUE: &'static str = "artifacts";
    const MAX_ATTEMPTS: i32 = 12;
}

/// Tell one receiver of one run's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliverWebhook {
    /// What is sent where.
    pub delivery_id: DeliveryId,
}

impl JobArgs for DeliverWebhook {
    const KIND: &'static str = "DeliverWebhook";
    const QUEUE: &'static str = "webhooks";
    /// More than its handler ever uses: it gives up by itself.
    const MAX_ATTEMPTS: i32 = 20;
}

/// Tell a forge how a run of its commit stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportStatus {
    /// Of which commit, in which context.
    pub status_id: CommitStatusId,
    /// The change that it tells of.
    pub version: i32,
}

impl JobArgs for ReportStatus {
    const KIND: &'static str = "ReportStatus";
    const QUEUE: &'static str = DeliverWebhook::QUEUE;
    /// More than its handler ever uses: it gives up by itself.
    const MAX_ATTEMPTS: i32 = 20;
}
