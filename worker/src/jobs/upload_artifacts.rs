//! `UploadArtifacts`: publish what the steps staged, then end the run.
//!
//! Keys depend only on run, artifact and path, so doing it again overwrites the same objects with the same bytes.

use std::sync::Arc;

use buildit_shared::{
    db::{advance, planning},
    domain::RunStatus,
    jobs::UploadArtifacts,
    pipeline::{Artifact, PlannedStep},
    queue::{Claim, Ended, JobError, Signal},
};

use super::{Context, publish};
use crate::crash_point;

pub(super) async fn run(cx: Arc<Context>, claim: Arc<Claim>, args: UploadArtifacts) -> Result<Ended, JobError> {
    let id = args.run_id;
    let run = planning::read_unpublished(&cx.pool, id).await?.filter(|run| run.status == RunStatus::Running);
    let Some(run) = run else { return Ok(claim.complete_alone(&[]).await?) };
    let outcome = planning::outcome(&cx.pool, id).await?;
    let declared: Vec<Artifact> = serde_json::from_value(run.artifacts)
        .map_err(|error| JobError::fail(format!("the stored artifact declarations cannot be read: {error}")))?;
    crash_point!("publish: claimed");
    claim.may_act().await?;
    let published = publish::publish(&cx, id, outcome, &declared).await?;
    crash_point!("publish: stored");
    let mut tx = cx.pool.begin().await?;
    if outcome == RunStatus::Success {
        let image = format!("{}/{}:{}", cx.registry, run.project, run.commit_sha.as_deref().unwrap_or_default());
        for plan in run.succeeded {
            let step: PlannedStep = serde_json::from_value(plan)
                .map_err(|error| JobError::fail(format!("the stored plan of a step cannot be read: {error}")))?;
            if let Some(environment) = builds_image(&step) {
                advance::deploy(&mut tx, id, &step.name, environment, &image).await?;
            }
        }
    }
    let jobs = advance::end_run(&mut tx, id, &published.artifacts, &published.notes).await?;
    crash_point!("publish: end written, not committed");
    let ended = claim.complete(tx, &jobs).await?;
    crash_point!("publish: end committed");
    claim.member().notifier().send(Signal::Run(id));
    Ok(ended)
}

/// The environment that an image build goes to; `None` for other steps.
fn builds_image(step: &PlannedStep) -> Option<&str> {
    match &step.deploy {
        Some(environment) => Some(environment),
        None if step.image.contains("kaniko") => Some("default"),
        None => None,
    }
}
