//! Which steps may start, and which never will.

use std::collections::BTreeSet;

use buildit_shared::domain::StepStatus;
use buildit_shared::pipeline::Plan;

/// The steps of a run and how far each is.
#[derive(Debug)]
pub(super) struct Graph {
    depends_on: Vec<BTreeSet<usize>>,
    allow_failure: Vec<bool>,
    status: Vec<StepStatus>,
}

impl Graph {
    /// Only the `wanted` steps take part, and of them only those that no filter leaves out. What
    /// takes no part holds nobody up, but passes on what itself would have waited for.
    pub(super) fn new(plan: &Plan, wanted: &[usize]) -> Graph {
        let takes_part = |step: usize| wanted.contains(&step) && plan.steps[step].skipped.is_none();
        let mut depends_on: Vec<BTreeSet<usize>> = Vec::new();
        for step in 0..plan.steps.len() {
            depends_on.push(parts_before(plan, step, &takes_part));
        }
        let status = |step| if takes_part(step) { StepStatus::Pending } else { StepStatus::Skipped };
        Graph {
            depends_on,
            allow_failure: plan.steps.iter().map(|step| step.allow_failure).collect(),
            status: (0..plan.steps.len()).map(status).collect(),
        }
    }

    /// Those that wait for nothing any more, in the order of the file.
    pub(super) fn ready(&self) -> Vec<usize> {
        let lets_start = |&step: &usize| self.status[step].lets_dependents_start(self.allow_failure[step]);
        (0..self.status.len())
            .filter(|&step| self.status[step] == StepStatus::Pending)
            .filter(|&step| self.depends_on[step].iter().all(lets_start))
            .collect()
    }

    pub(super) fn started(&mut self, step: usize) {
        self.status[step] = StepStatus::Running;
    }

    /// Returns the steps that will not run because of it.
    pub(super) fn ended(&mut self, step: usize, status: StepStatus) -> Vec<usize> {
        self.status[step] = status;
        if status.lets_dependents_start(self.allow_failure[step]) {
            return Vec::new();
        }
        let mut skipped = vec![];
        let mut blocked = BTreeSet::from([step]);
        // A dependent may stand before what it depends on in the file, so this goes round until
        // nothing changes.
        loop {
            let next = (0..self.status.len())
                .find(|&step| self.status[step] == StepStatus::Pending && !self.depends_on[step].is_disjoint(&blocked));
            let Some(next) = next else {
                return skipped;
            };
            self.status[next] = StepStatus::Skipped;
            blocked.insert(next);
            skipped.push(next);
        }
    }

    /// Leaves out all that have not started.
    pub(super) fn cancel_pending(&mut self) -> Vec<usize> {
        let pending = |&step: &usize| self.status[step] == StepStatus::Pending;
        let cancelled: Vec<usize> = (0..self.status.len()).filter(pending).collect();
        for &step in &cancelled {
            self.status[step] = StepStatus::Cancelled;
        }
        cancelled
    }
}

/// The steps that take part and that `step` waits for, directly or through others that do not.
fn parts_before(plan: &Plan, step: usize, takes_part: &dyn Fn(usize) -> bool) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = plan.steps[step].depends_on.clone();
    while let Some(before) = open.pop() {
        if !seen.insert(before) {
            continue;
        }
        if takes_part(before) {
            found.insert(before);
        } else {
            open.extend(&plan.steps[before].depends_on);
        }
    }
    found
}

/// Those whose outputs `step` gets, and those whose outputs they need, and so on.
pub(super) fn providers(plan: &Plan, step: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = plan.steps[step].depends_on.clone();
    while let Some(before) = open.pop() {
        if !plan.steps[before].outputs.is_empty() && found.insert(before) {
            open.extend(&plan.steps[before].depends_on);
        }
    }
    found
}
