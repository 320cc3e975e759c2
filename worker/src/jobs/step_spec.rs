//! What the runner is told: the planned step with its secrets, the checkout, and the outputs of its dependencies.

use buildit_runner::{AttemptSpec, spec::ArtifactSpec};
use buildit_shared::{
    db::attempts::{self, Attempt},
    pipeline::{Artifact, PlannedStep},
    queue::JobError,
};

use super::{Context, local_file::local_file, secrets};
use crate::executor::{Handle, Launch};

/// How this attempt is started, or a sentence for the user why it cannot be.
pub(super) async fn launch(
    cx: &Context,
    attempt: &Attempt,
    step: &PlannedStep,
) -> Result<Result<Launch, String>, JobError> {
    let values = match secrets::values(cx, attempt, step).await? {
        Ok(values) => values,
        Err(reason) => return Ok(Err(reason)),
    };
    let rendered = match step.render(|name| values.get(name).cloned()) {
        Ok(rendered) => rendered,
        Err(missing) => return Ok(Err(missing.to_string())),
    };
    let short = buildit_runner::mask::MIN_SECRET;
    if rendered.secrets.iter().any(|secret| secret.len() < short) {
        return Ok(Err(format!(
            "a secret of this step is shorter than {short} bytes and could not be masked in its log"
        )));
    }
    let artifacts: Vec<Artifact> = serde_json::from_value(attempt.artifacts.clone())
        .map_err(|error| JobError::fail(format!("the stored artifact declarations cannot be read: {error}")))?;
    let mut spec = AttemptSpec::new(attempt.id.to_string(), attempt.step.clone());
    spec.commands = rendered.commands;
    spec.shown = step.commands.iter().map(|command| command.source.clone()).collect();
    spec.environment = rendered.environment;
    spec.secrets = rendered.secrets;
    // A runner without a folder here asks the API for its sources when it begins.
    if cx.executor.files(&Handle::new(attempt.id.to_string())).is_some() {
        let sources = attempts::sources(&cx.pool, attempt.id).await?;
        if let Some(key) = &sources.checkout {
            spec.checkout = Some(local_file(cx, key).await?);
        }
        for key in &sources.inputs {
            spec.inputs.push(local_file(cx, key).await?);
        }
    }
    spec.outputs.clone_from(&step.outputs);
    spec.log_limit_bytes = cx.log_limit_bytes;
    spec.artifacts =
        artifacts.into_iter().map(|artifact| ArtifactSpec { name: artifact.name, path: artifact.path }).collect();
    spec.timeout_ms = u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX);
    Ok(Ok(Launch {
        spec,
        image: step.image.clone(),
        resources: step.resources,
        run_id: attempt.run_id.to_string(),
        ahead: attempt.ahead,
    }))
}
