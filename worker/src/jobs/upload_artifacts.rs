//! `UploadArtifacts`: publish what the steps staged, then end the run.
//!
//! Keys depend only on run, artifact and path, so doing it again overwrites the same objects with the same bytes.

use std::sync::Arc;

use buildit_shared::{
    db::{
        advance::{self, BuiltImage},
        planning::{self, Unpublished},
    },
    domain::RunStatus,
    jobs::UploadArtifacts,
    pipeline::{Artifact, PlannedStep},
    queue::{Claim, Ended, JobError, Signal},
};

use serde::Deserialize;

use super::{Context, image_digest, publish};
use crate::crash_point;

pub(super) async fn run(cx: Arc<Context>, claim: Arc<Claim>, args: UploadArtifacts) -> Result<Ended, JobError> {
    let id = args.run_id;
    let run = planning::read_unpublished(&cx.pool, id).await?.filter(|run| run.status == RunStatus::Running);
    let Some(run) = run else { return Ok(claim.complete_alone(&[]).await?) };
    let outcome = planning::outcome(&cx.pool, id).await?;
    let declared: Vec<Artifact> = Vec::deserialize(&run.artifacts)
        .map_err(|error| JobError::fail(format!("the stored artifact declarations cannot be read: {error}")))?;
    crash_point!("publish: claimed");
    claim.may_act().await?;
    let mut published = publish::publish(&cx, id, outcome, &declared).await?;
    crash_point!("publish: stored");
    let built = match outcome {
        RunStatus::Success => built_images(&cx, &run, &mut published.notes).await?,
        _ => Vec::new(),
    };
    let mut tx = cx.pool.begin().await?;
    for image in &built {
        advance::deploy(&mut tx, id, image).await?;
    }
    let jobs = advance::end_run(&mut tx, id, &published.artifacts, &published.notes).await?;
    crash_point!("publish: end written, not committed");
    let ended = claim.complete(tx, &jobs).await?;
    crash_point!("publish: end committed");
    claim.member().notifier().send(Signal::Run(id));
    Ok(ended)
}

/// What the run's steps have pushed. A registry that does not tell a digest delays nobody: it is noted.
async fn built_images(cx: &Context, run: &Unpublished, notes: &mut Vec<String>) -> Result<Vec<BuiltImage>, JobError> {
    let image = format!("{}/{}:{}", cx.registry, run.project, run.commit_sha.as_deref().unwrap_or_default());
    let mut built = Vec::new();
    for plan in &run.succeeded {
        let step = PlannedStep::deserialize(plan)
            .map_err(|error| JobError::fail(format!("the stored plan of a step cannot be read: {error}")))?;
        let Some(environment) = builds_image(&step).map(str::to_owned) else { continue };
        let digest = match image_digest::digest(&image).await {
            Ok(digest) => Some(digest),
            Err(why) => {
                notes.push(format!("step `{}`: the digest of {image} is not known: {why}", step.name));
                None
            }
        };
        built.push(BuiltImage { step: step.name, environment, image: image.clone(), digest });
    }
    Ok(built)
}

/// The environment that an image build goes to; `None` for other steps.
fn builds_image(step: &PlannedStep) -> Option<&str> {
    match &step.deploy {
        Some(environment) => Some(environment),
        None if step.image.contains("kaniko") => Some("default"),
        None => None,
    }
}
