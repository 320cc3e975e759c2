//! Steps' attempts that are started before their turn, so that it does not have to wait for a node, an image and a
//! container.
//!
//! Their runners stand at the gate, which is their `begin`: it opens when the step's turn has come and a worker has taken
//! its job. They are a run's guests: they go when their step will not run, and when an attempt whose turn has come finds
//! no room. Whatever fails here costs time and nothing else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use buildit_shared::{
    db::{
        attempts::Attempt,
        attempts_ahead::{self, Limits},
    },
    ids::{AttemptId, RunId},
    pipeline::{OnLost, PlannedStep},
    queue::JobError,
};

use super::{Context, step_spec};
use crate::{crash_point, executor::Handle};

/// How long nothing is started ahead after an attempt whose turn had come found no room.
const CROWDED: Duration = Duration::from_secs(60);

/// When there was last no room.
#[derive(Debug, Default)]
pub struct Crowded(Mutex<Option<Instant>>);

impl Crowded {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_so(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|noted| noted.elapsed() < CROWDED)
    }
}

/// Starts what comes next in this run, as far as the operator allows. Nobody waits for it.
pub(super) fn start_next(cx: &Arc<Context>, run: RunId) {
    let limits = cx.executor.ahead();
    if limits.of_a_run == 0 || cx.crowded.is_so() {
        return;
    }
    let cx = Arc::clone(cx);
    tokio::spawn(async move {
        if let Err(error) = start_candidates(&cx, run, limits).await {
            tracing::warn!(%error, %run, "no step of this run is started ahead");
        }
    });
}

async fn start_candidates(cx: &Context, run: RunId, limits: Limits) -> Result<(), JobError> {
    for attempt in attempts_ahead::candidates(&cx.pool, run, limits).await? {
        let Ok(step) = serde_json::from_value::<PlannedStep>(attempt.plan.clone()) else { continue };
        if may_go_ahead(&step) {
            start(cx, &attempt, &step, limits).await?;
        }
    }
    Ok(())
}

/// Secrets are read when a step starts, and do not lie in the cluster before. And a pod that is lost while it waits is a
/// lost attempt, which some steps do not survive.
fn may_go_ahead(step: &PlannedStep) -> bool {
    step.secret_names().is_empty() && step.on_lost == OnLost::Retry
}

async fn start(cx: &Context, attempt: &Attempt, step: &PlannedStep, limits: Limits) -> Result<(), JobError> {
    // What is wrong with it is told when its turn comes.
    let Ok(launch) = step_spec::launch(cx, attempt, step).await? else { return Ok(()) };
    if !attempts_ahead::reserve(&cx.pool, attempt, cx.executor.room(launch.resources), limits).await? {
        return Ok(());
    }
    crash_point!("step: reserved ahead");
    match cx.executor.start(&launch).await {
        Ok(_) => tracing::debug!(attempt = %attempt.id, step = attempt.step, "started ahead"),
        Err(error) => {
            tracing::info!(%error, step = attempt.step, "not started ahead");
            if attempts_ahead::give_up(&cx.pool, attempt.id).await? {
                remove(cx, [attempt.id]).await;
            }
        }
    }
    Ok(())
}

/// Removes those of this run that will have no turn. Nobody waits for it: what a crash leaves goes by itself, since no
/// runner begins without its turn, and is swept.
pub(super) fn remove_unwanted(cx: &Arc<Context>, run: RunId) {
    if cx.executor.ahead().of_a_run == 0 {
        return;
    }
    let cx = Arc::clone(cx);
    tokio::spawn(async move {
        match attempts_ahead::give_up_unwanted(&cx.pool, Some(run)).await {
            Ok(unwanted) => remove(&cx, unwanted).await,
            Err(error) => tracing::warn!(%error, %run, "what was started ahead is left for the sweep"),
        }
    });
}

/// Removes all of them, for an attempt whose turn has come and that finds no room.
pub(super) async fn make_room(cx: &Context) -> Result<(), JobError> {
    cx.crowded.note();
    let waiting = attempts_ahead::give_up_all(&cx.pool).await?;
    if !waiting.is_empty() {
        tracing::info!(removed = waiting.len(), "what was started ahead makes room for a step whose turn has come");
    }
    remove(cx, waiting).await;
    Ok(())
}

async fn remove(cx: &Context, attempts: impl IntoIterator<Item = AttemptId>) {
    for attempt in attempts {
        if let Err(error) = cx.executor.stop(&Handle::new(attempt.to_string()), Duration::ZERO).await {
            tracing::warn!(%error, %attempt, "left for the sweep");
        }
    }
}
