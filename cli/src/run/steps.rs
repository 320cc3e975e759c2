//! All steps: in the order of the graph, side by side where it allows.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use buildit_shared::domain::{RunStatus, StepStatus, outcome};
use buildit_shared::pipeline::Plan;
use buildit_worker::executor::{Executor, Handle};
use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Secrets;
use super::graph::Graph;
use super::signals::Cancel;
use super::step::{self, Ended};
use crate::output::{Piece, Sender};

/// What all steps share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) executor: Box<dyn Executor>,
    pub(super) checkout: PathBuf,
    pub(super) plan: Plan,
    pub(super) secrets: Secrets,
    pub(super) output: Sender,
    pub(super) cancel: watch::Receiver<Cancel>,
    pub(super) started: Mutex<Vec<Handle>>,
}

impl Run {
    pub(super) async fn say(&self, step: usize, note: String) {
        self.output.send(Piece::Note(step, note)).await.ok();
    }

    pub(super) fn remember(&self, handle: &Handle) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(handle.clone());
    }

    /// Removes what the attempts have left.
    pub(super) async fn clean(&self) {
        let started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        // What cannot be removed is in the system's folder for temporary files.
        join_all(started.iter().map(|handle| self.executor.clean(handle))).await;
    }
}

/// How each step of the plan ended.
#[derive(Debug)]
pub(super) struct AllEnded {
    pub(super) steps: Vec<Ended>,
    allow_failure: Vec<bool>,
}

impl AllEnded {
    pub(super) fn status(&self) -> RunStatus {
        let steps = self.steps.iter().map(|ended| ended.status);
        outcome(steps.zip(self.allow_failure.iter().copied()))
    }
}

/// Runs the `wanted` steps, at most `parallel` at once.
pub(super) async fn carry_out(run: &Arc<Run>, wanted: &[usize], parallel: usize) -> Result<AllEnded> {
    let mut graph = Graph::new(&run.plan, wanted);
    let mut ended: Vec<Option<Ended>> = run.plan.steps.iter().map(|step| left_out(step.skipped.as_ref())).collect();
    let mut running = JoinSet::new();
    let mut cancel = run.cancel.clone();
    loop {
        if *cancel.borrow_and_update() == Cancel::No {
            for index in graph.ready().into_iter().take(parallel - running.len().min(parallel)) {
                graph.started(index);
                let inputs = inputs(&run.plan, index, &ended);
                let run = Arc::clone(run);
                running.spawn(async move { (index, step::carry_out(&run, index, inputs).await) });
            }
        } else {
            for index in graph.cancel_pending() {
                ended[index] = Some(Ended::without_running(StepStatus::Cancelled, "cancelled".to_owned()));
            }
        }
        let joined = tokio::select! {
            joined = running.join_next() => joined,
            Ok(()) = cancel.changed() => continue,
        };
        let Some(joined) = joined else {
            break;
        };
        let (index, end) = joined.context("a step's task ended early")?;
        let name = &run.plan.steps[index].name;
        for skipped in graph.ended(index, end.status) {
            let reason = format!("{name} ended with {}", end.status.name());
            ended[skipped] = Some(Ended::without_running(StepStatus::Skipped, reason));
        }
        ended[index] = Some(end);
    }
    let not_wanted = || Ended::without_running(StepStatus::Skipped, "not asked for".to_owned());
    Ok(AllEnded {
        steps: ended.into_iter().map(|ended| ended.unwrap_or_else(not_wanted)).collect(),
        allow_failure: run.plan.steps.iter().map(|step| step.allow_failure).collect(),
    })
}

fn left_out(reason: Option<&String>) -> Option<Ended> {
    reason.map(|reason| Ended::without_running(StepStatus::Skipped, reason.clone()))
}

/// What the steps that it depends on, directly or by others, hand on, in the order of the file.
fn inputs(plan: &Plan, step: usize, ended: &[Option<Ended>]) -> Vec<PathBuf> {
    let mut before = BTreeSet::new();
    let mut open = plan.steps[step].depends_on.clone();
    while let Some(on) = open.pop() {
        if before.insert(on) {
            open.extend(&plan.steps[on].depends_on);
        }
    }
    before.into_iter().filter_map(|before| ended[before].as_ref()?.outputs.clone()).collect()
}
