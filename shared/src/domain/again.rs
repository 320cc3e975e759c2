//! Which steps of an ended run a retry runs anew. All others keep their results and outputs.

use std::collections::BTreeSet;

use super::StepStatus;

/// A step of an ended run.
#[derive(Clone, Debug)]
pub struct EndedStep {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: StepStatus,
    /// Whether its failure leaves the run a success.
    pub allow_failure: bool,
    /// A filter left it out for good.
    pub left_out: bool,
    /// Positions of the steps that it waits for.
    pub waits_for: Vec<usize>,
}

/// Why a step cannot be run anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAgain {
    /// It takes no part in this run.
    #[error("step `{0}` takes no part in this run")]
    LeftOut(String),
    /// What it depends on would have to succeed first.
    #[error("step `{step}` depends on step `{on}`, which did not succeed; retry from `{on}`, or all that failed")]
    NotReady {
        /// The step that was asked for.
        step: String,
        /// One that it depends on.
        on: String,
    },
}

impl EndedStep {
    /// Whether those that wait for it may start.
    fn lets_others_start(&self) -> bool {
        self.status.lets_dependents_start(self.allow_failure)
    }
}

/// The positions of all that did not succeed, other than by its author's leave.
pub fn unsuccessful(steps: &[EndedStep]) -> BTreeSet<usize> {
    let again = steps.iter().enumerate().filter(|(_, step)| !step.left_out && !step.lets_others_start());
    again.map(|(position, _)| position).collect()
}

/// The positions of this step and of all that depend on it. What depends on another step that did not succeed as well stays
/// as it is.
///
/// # Errors
/// Why this step cannot be run anew.
pub fn from_step(steps: &[EndedStep], position: usize) -> Result<BTreeSet<usize>, NotAgain> {
    let step = &steps[position];
    if step.left_out {
        return Err(NotAgain::LeftOut(step.name.clone()));
    }
    if let Some(&on) = step.waits_for.iter().find(|&&on| !steps[on].lets_others_start()) {
        return Err(NotAgain::NotReady { step: step.name.clone(), on: steps[on].name.clone() });
    }
    let mut again = BTreeSet::from([position]);
    let joins = |again: &BTreeSet<usize>, position: usize| {
        let waits_for = &steps[position].waits_for;
        !again.contains(&position)
            && waits_for.iter().any(|on| again.contains(on))
            && waits_for.iter().all(|on| again.contains(on) || steps[*on].lets_others_start())
    };
    while let Some(next) = (0..steps.len()).find(|&position| joins(&again, position)) {
        again.insert(next);
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;
    use StepStatus::{Failure, Skipped, Success};

    fn step(name: &str, status: StepStatus, waits_for: &[usize]) -> EndedStep {
        EndedStep { name: name.into(), status, allow_failure: false, left_out: false, waits_for: waits_for.to_vec() }
    }

    /// a → b, c → d; each ended so.
    fn diamond(statuses: [StepStatus; 4]) -> Vec<EndedStep> {
        let [a, b, c, d] = statuses;
        // In a file, steps may stand before those that they wait for.
        vec![step("d", d, &[1, 2]), step("c", c, &[3]), step("b", b, &[3]), step("a", a, &[])]
    }

    fn names(steps: &[EndedStep], positions: BTreeSet<usize>) -> Vec<&str> {
        positions.into_iter().map(|position| steps[position].name.as_str()).collect()
    }

    #[test]
    fn a_step_and_all_that_depend_on_it_are_run_anew() {
        let steps = diamond([Success; 4]);
        assert_eq!(names(&steps, from_step(&steps, 2).unwrap()), ["d", "b"]);
        assert_eq!(names(&steps, from_step(&steps, 3).unwrap()), ["d", "c", "b", "a"]);
        assert_eq!(names(&steps, from_step(&steps, 0).unwrap()), ["d"]);
        assert_eq!(names(&steps, unsuccessful(&steps)), [""; 0]);
    }

    #[test]
    fn what_another_failed_step_holds_up_stays_as_it_is() {
        let steps = diamond([Success, Failure, Failure, Skipped]);
        assert_eq!(names(&steps, from_step(&steps, 2).unwrap()), ["b"]);
        assert_eq!(names(&steps, unsuccessful(&steps)), ["d", "c", "b"]);
    }

    #[test]
    fn a_step_whose_own_dependency_failed_is_not_run() {
        let steps = diamond([Success, Success, Failure, Skipped]);
        let refused = NotAgain::NotReady { step: "d".into(), on: "c".into() };
        assert_eq!(from_step(&steps, 0), Err(refused));
    }

    #[test]
    fn a_failure_that_is_allowed_holds_nobody_up() {
        let mut steps = diamond([Success, Success, Failure, Success]);
        steps[1].allow_failure = true;
        assert_eq!(names(&steps, from_step(&steps, 0).unwrap()), ["d"]);
        assert_eq!(names(&steps, unsuccessful(&steps)), [""; 0]);
    }

    #[test]
    fn what_a_filter_left_out_stays_out() {
        let mut steps = vec![step("a", Success, &[]), step("publish", Skipped, &[])];
        steps[1].left_out = true;
        assert_eq!(from_step(&steps, 1), Err(NotAgain::LeftOut("publish".into())));
        assert_eq!(names(&steps, unsuccessful(&steps)), [""; 0]);
    }
}
