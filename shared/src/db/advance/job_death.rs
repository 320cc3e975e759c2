//! A job died or was discarded: its run goes through its own transitions.

use super::{AttemptEnd, Tx, end_attempt, end_unplanned, finish, lock};
use crate::{
    db::repository_looks,
    domain::{AttemptStatus, RunStatus},
    jobs::{JobArgs, LookAtRepository, RunPipeline, RunStep, UploadArtifacts},
    queue::{Job, NewJob},
};

/// What the death of a job means for its run, in the transaction in which the job leaves the queue.
pub async fn job_died(tx: &mut Tx<'_>, job: &Job, error: &str) -> Result<Vec<NewJob>, sqlx::Error> {
    if job.kind == LookAtRepository::KIND {
        if let Ok(args) = job.args::<LookAtRepository>() {
            let problem = format!("BuildIt could not look at the repository: {error}");
            repository_looks::note(&mut **tx, &args, &Err(problem)).await?;
        }
        return Ok(Vec::new());
    }
    let Some(run_id) = job.run_id else { return Ok(Vec::new()) };
    match job.kind.as_str() {
        RunPipeline::KIND => {
            let reason = format!("the run could not be planned: {error}");
            end_unplanned(tx, run_id, RunStatus::Error, &reason, None).await
        }
        RunStep::KIND => {
            let Ok(args) = job.args::<RunStep>() else { return Ok(Vec::new()) };
            let end = AttemptEnd {
                status: AttemptStatus::Error,
                exit_code: None,
                reason: Some(format!("BuildIt could not run this step: {error}; an operator can retry it")),
                log_ref: None,
                step_log_ref: None,
                report: None,
                first_command_at_ms: None,
                retry_if_lost: false,
            };
            end_attempt(tx, run_id, args.step_id, args.attempt_id, &end).await
        }
        UploadArtifacts::KIND => {
            let Some(run) = lock(tx, run_id).await? else { return Ok(Vec::new()) };
            let reason = format!("the artifacts could not be published: {error}");
            finish(tx, &run, RunStatus::Error, Some(&reason)).await
        }
        _ => Ok(Vec::new()),
    }
}
