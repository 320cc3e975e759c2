//! What the runner is told: the planned step with its secrets, the checkout, and the outputs of its dependencies.

use buildit_runner::{AttemptSpec, Report, spec::ArtifactSpec};
use buildit_shared::{
    db::attempts::{self, Attempt},
    pipeline::{Artifact, PlannedStep},
    queue::JobError,
    storage::keys,
};

use super::{Context, local_file::local_file, secrets};

/// The spec of this attempt, or a sentence for the user why there can be none.
pub(super) async fn spec(
    cx: &Context,
    attempt: &Attempt,
    step: &PlannedStep,
) -> Result<Result<AttemptSpec, String>, JobError> {
    let rendered = match step.render(secrets::secret) {
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
    let mut inputs = Vec::new();
    for (dependency, report) in attempts::reports_of_dependencies(&cx.pool, attempt.step_id).await? {
        let report: Report = serde_json::from_value(report)
            .map_err(|error| JobError::fail(format!("a stored report cannot be read: {error}")))?;
        if report.outputs.is_some() {
            inputs.push(local_file(cx, &keys::outputs(attempt.run_id, dependency)).await?);
        }
    }
    let checkout = match &attempt.checkout_key {
        Some(key) => Some(local_file(cx, key).await?),
        None => None,
    };
    let mut spec = AttemptSpec::new(attempt.id.to_string(), attempt.step.clone());
    spec.commands = rendered.commands;
    spec.shown = step.commands.iter().map(|command| command.source.clone()).collect();
    spec.environment = rendered.environment;
    spec.secrets = rendered.secrets;
    spec.checkout = checkout;
    spec.inputs = inputs;
    spec.outputs.clone_from(&step.outputs);
    spec.log_limit_bytes = cx.log_limit_bytes;
    spec.artifacts =
        artifacts.into_iter().map(|artifact| ArtifactSpec { name: artifact.name, path: artifact.path }).collect();
    spec.timeout_ms = u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX);
    Ok(Ok(spec))
}
