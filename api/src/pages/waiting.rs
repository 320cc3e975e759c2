//! Why something waits, in one sentence that also says what to do where there is something to do.

use std::collections::HashMap;

use buildit_shared::{
    db::{
        overviews::{self, Waiting},
        run_queries::Run,
        step_queries::{Attempt, Step},
    },
    domain::{AttemptStatus, RunStatus, StepStatus},
    ids::StepId,
};

use super::error::Result;
use crate::App;

/// What a run and its steps wait for.
#[derive(Default)]
pub(super) struct Sentences {
    /// The run itself, before it has steps.
    pub(super) run: Option<String>,
    by_step: HashMap<StepId, String>,
}

impl Sentences {
    pub(super) fn of(&self, step: StepId) -> Option<&str> {
        self.by_step.get(&step).map(String::as_str)
    }
}

/// Asks the queue, unless the run has ended.
pub(super) async fn sentences(app: &App, run: &Run, steps: &[Step], attempts: &[Attempt]) -> Result<Sentences> {
    let mut sentences = Sentences::default();
    if run.status.is_ended() {
        return Ok(sentences);
    }
    for step in steps.iter().filter(|step| step.status == StepStatus::Pending) {
        if let Some(sentence) = dependencies(step, steps) {
            sentences.by_step.insert(step.id, sentence);
        }
    }
    // What the executor says of an attempt that has begun no command: a pod that no node has room for, for one.
    for attempt in attempts {
        let is_at_work = matches!(attempt.status, AttemptStatus::Pending | AttemptStatus::Running);
        if let Some(reason) = attempt.reason.as_deref().filter(|_| is_at_work && attempt.first_command_at.is_none()) {
            sentences.by_step.insert(attempt.step_id, reason.to_owned());
        }
    }
    for job in overviews::waiting(app.pool(), run.id, run.generation).await? {
        let sentence = queued(&job);
        match job.step_id {
            Some(step) => drop(sentences.by_step.insert(step, sentence)),
            None => sentences.run = Some(sentence),
        }
    }
    if run.status == RunStatus::Pending && sentences.run.is_none() {
        let holder = overviews::group_holder(app.pool(), run.id).await?;
        sentences.run = holder.map(|number| format!("Run #{number} of the same concurrency group goes first."));
    }
    Ok(sentences)
}

fn dependencies(step: &Step, steps: &[Step]) -> Option<String> {
    let is_open = |name: &&String| {
        steps.iter().any(|other| other.name == **name && !other.status.lets_dependents_start(other.allow_failure))
    };
    let open: Vec<&str> = step.depends_on.iter().filter(is_open).map(String::as_str).collect();
    let (last, others) = open.split_last()?;
    Some(match others {
        [] => format!("Waits for {last}."),
        [one] => format!("Waits for {one} and {last}."),
        [first, rest @ ..] => format!("Waits for {first} and {} more.", rest.len() + 1),
    })
}

fn queued(job: &Waiting) -> String {
    let queue = &job.queue;
    if let Some(by) = &job.paused_by {
        let reason = job.paused_reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        return format!("The queue `{queue}` was paused by {by}{reason}");
    }
    if !job.is_served {
        return format!("No worker takes jobs of the queue `{queue}`. Start one: `buildit worker`.");
    }
    if !job.is_due {
        return format!("Tried again at {}.", job.run_at.to_jiff().strftime("%H:%M:%S UTC"));
    }
    match job.ahead {
        0 => "Next in the queue.".into(),
        1000.. => "More than 1000 jobs go before it.".into(),
        ahead => format!("Number {} in the queue.", ahead + 1),
    }
}
