//! The values of `${secrets.NAME}`. Whether all are set is looked at when a run is planned, and what they are only when a
//! step starts.

use std::collections::BTreeMap;

use buildit_shared::{
    db::{
        attempts::Attempt,
        planning::Unplanned,
        secrets::{self, Error, Names},
    },
    pipeline::PlannedStep,
    queue::JobError,
};

use super::Context;

/// Why a run of a fork's commit ends before anything runs.
const NOT_FOR_FORKS: &str = "a step needs a secret, and a merge request from another repository gets none; leave such steps out \
                             by `when`, or push its commits to a branch of this repository once they were looked at";

/// A sentence that names the secrets that are not set and the steps that need them; `None` when there are none. A step that
/// does not take part needs nothing.
pub(super) async fn missing(cx: &Context, run: &Unplanned, steps: &[PlannedStep]) -> Result<Option<String>, JobError> {
    if steps.iter().all(|step| step.secret_names().is_empty()) {
        return Ok(None);
    }
    if run.fork {
        return Ok(missing_of(steps, &Names::default()).map(|_| NOT_FOR_FORKS.to_owned()));
    }
    Ok(missing_of(steps, &secrets::names(&cx.pool, run.project_id).await?))
}

fn missing_of(steps: &[PlannedStep], set: &Names) -> Option<String> {
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for step in steps.iter().filter(|step| step.skipped.is_none()) {
        let environment = step.deploy.as_deref();
        for name in step.secret_names().into_iter().filter(|name| !set.has(environment, name)) {
            missing.entry(name).or_default().push(format!("`{}`", step.name));
        }
    }
    let of = |(name, steps): (&str, Vec<String>)| {
        let plural = if steps.len() == 1 { "" } else { "s" };
        format!("`{name}` for step{plural} {}", steps.join(", "))
    };
    let elsewhere: String = missing.keys().filter_map(|name| set_elsewhere(set, name)).collect();
    let named: Vec<String> = missing.into_iter().map(of).collect();
    let (are, them) = if named.len() == 1 { ("a secret is", "it") } else { ("secrets are", "them") };
    (!named.is_empty()).then(|| {
        format!(
            "{are} not set: {}; {elsewhere}set {them} among the project's secrets or the organization's, then retry the run",
            named.join(", ")
        )
    })
}

/// Where else a secret is set; `None` when it is nowhere.
fn set_elsewhere(set: &Names, name: &str) -> Option<String> {
    let environments: Vec<String> = set.environments(name).map(|environment| format!("`{environment}`")).collect();
    let what = if environments.len() == 1 { "the environment" } else { "the environments" };
    (!environments.is_empty())
        .then(|| format!("`{name}` is for steps that `deploy` to {what} {} alone; ", environments.join(", ")))
}

/// The values that a step needs, or why it cannot have them.
pub(super) async fn values(
    cx: &Context,
    attempt: &Attempt,
    step: &PlannedStep,
) -> Result<Result<BTreeMap<String, String>, String>, JobError> {
    let names: Vec<String> = step.secret_names().into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Ok(Ok(BTreeMap::new()));
    }
    if attempt.fork {
        return Ok(Err(NOT_FOR_FORKS.to_owned()));
    }
    let Some(vault) = &cx.vault else {
        return Ok(Err("this worker has no key to open secrets with: its operator sets `secrets_key`".into()));
    };
    match secrets::values(&cx.pool, vault, attempt.project_id, step.deploy.as_deref(), &names).await {
        Ok(values) => Ok(Ok(values)),
        Err(Error::Database(error)) => Err(error.into()),
        Err(error @ Error::Vault { .. }) => Ok(Err(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use buildit_shared::pipeline::{self, Event, EventKind};

    use super::*;

    fn planned(file: &str) -> Vec<PlannedStep> {
        let pipeline = pipeline::parse_bytes("a.yaml", file.as_bytes()).unwrap();
        let context = pipeline::Context {
            project_id: "1".into(),
            project_name: "web".into(),
            registry: "localhost:5000".into(),
            sha: "0123456789abcdef0123456789abcdef01234567".into(),
            git_ref: "refs/heads/main".into(),
            message: "A change".into(),
            author: "Ada".into(),
            pipeline_id: "2".into(),
            pipeline_name: "web".into(),
            run_id: "3".into(),
            run_number: 1,
            event: Event::at(EventKind::Push, "refs/heads/main"),
            variables: pipeline::GivenVariables::new(),
        };
        pipeline::plan(&pipeline, &context).unwrap().steps
    }

    const FILE: &str = "
pipeline:
  steps:
    - { name: a, image: debian, commands: ['echo ${secrets.ONE}'], environment: { X: '${secrets.TWO}' } }
    - { name: b, image: debian, commands: ['echo ${secrets.TWO}'] }
    - { name: c, image: debian, commands: ['echo ${secrets.THREE}'], when: { branch: [release] } }
    - { name: d, image: debian, commands: ['echo ${secrets.FOUR}'], deploy: production }
";

    /// Names of what any step gets, and environments with names of what is theirs.
    fn set(all: &[&str], of: &[(&str, &str)]) -> Names {
        let all = all.iter().map(|name| (None, (*name).to_owned()));
        let of = of.iter().map(|(environment, name)| (Some((*environment).to_owned()), (*name).to_owned()));
        all.chain(of).collect()
    }

    #[test]
    fn each_missing_secret_is_named_with_its_steps() {
        let steps = planned(FILE);
        assert_eq!(
            missing_of(&steps, &set(&["FOUR"], &[])).unwrap(),
            "secrets are not set: `ONE` for step `a`, `TWO` for steps `a`, `b`; set them among the project's secrets or the \
             organization's, then retry the run"
        );
        let said = missing_of(&steps, &set(&["TWO", "FOUR"], &[])).unwrap();
        assert!(said.starts_with("a secret is not set: `ONE` for step `a`; set it among"), "{said}");
    }

    #[test]
    fn what_is_set_or_needed_only_by_a_step_that_is_left_out_is_not_missed() {
        assert_eq!(missing_of(&planned(FILE), &set(&["ONE", "TWO", "FOUR"], &[])), None);
    }

    #[test]
    fn an_environments_secret_is_there_for_the_steps_that_deploy_to_it_alone() {
        let steps = planned(FILE);
        assert_eq!(missing_of(&steps, &set(&["ONE", "TWO"], &[("production", "FOUR")])), None);
        assert_eq!(
            missing_of(&steps, &set(&["TWO", "FOUR"], &[("staging", "ONE"), ("production", "ONE")])).unwrap(),
            "a secret is not set: `ONE` for step `a`; `ONE` is for steps that `deploy` to the environments `production`, \
             `staging` alone; set it among the project's secrets or the organization's, then retry the run"
        );
        let said = missing_of(&steps, &set(&["ONE", "TWO"], &[("staging", "FOUR")])).unwrap();
        assert!(
            said.contains("`FOUR` for step `d`; `FOUR` is for steps that `deploy` to the environment `staging`"),
            "{said}"
        );
    }
}
