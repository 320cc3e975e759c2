//! The values of `${secrets.NAME}`: variables `BUILDIT_SECRET_NAME` of the worker, until secrets have a place of their own.

use std::collections::BTreeMap;

use buildit_shared::pipeline::PlannedStep;

/// Its value, if this worker has one.
pub(super) fn secret(name: &str) -> Option<String> {
    std::env::var(format!("BUILDIT_SECRET_{name}")).ok()
}

/// A sentence that names the secrets without a value and the steps that need them; `None` when there are none. A step that
/// does not take part needs nothing.
pub(super) fn missing(steps: &[PlannedStep], secret: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for step in steps.iter().filter(|step| step.skipped.is_none()) {
        for name in step.secret_names().into_iter().filter(|name| secret(name).is_none()) {
            missing.entry(name).or_default().push(format!("`{}`", step.name));
        }
    }
    let of = |(name, steps): (&str, Vec<String>)| {
        let plural = if steps.len() == 1 { "" } else { "s" };
        format!("`{name}` for step{plural} {}", steps.join(", "))
    };
    let named: Vec<String> = missing.into_iter().map(of).collect();
    let (are, them) = if named.len() == 1 { ("a secret is", "it") } else { ("secrets are", "them") };
    (!named.is_empty()).then(|| {
        format!(
            "{are} not set: {}; an operator sets {them} as BUILDIT_SECRET_… where the workers run, then retry the run",
            named.join(", ")
        )
    })
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
        };
        pipeline::plan(&pipeline, &context).unwrap().steps
    }

    const FILE: &str = "
pipeline:
  steps:
    - { name: a, image: debian, commands: ['echo ${secrets.ONE}'], environment: { X: '${secrets.TWO}' } }
    - { name: b, image: debian, commands: ['echo ${secrets.TWO}'] }
    - { name: c, image: debian, commands: ['echo ${secrets.THREE}'], when: { branch: [release] } }
";

    #[test]
    fn each_missing_secret_is_named_with_its_steps() {
        let steps = planned(FILE);
        assert_eq!(
            missing(&steps, |_| None).unwrap(),
            "secrets are not set: `ONE` for step `a`, `TWO` for steps `a`, `b`; an operator sets them as BUILDIT_SECRET_… \
             where the workers run, then retry the run"
        );
        let said = missing(&steps, |name| (name == "TWO").then(String::new)).unwrap();
        assert!(said.starts_with("a secret is not set: `ONE` for step `a`; an operator sets it as"), "{said}");
    }

    #[test]
    fn what_is_set_or_needed_only_by_a_step_that_is_left_out_is_not_missed() {
        assert_eq!(missing(&planned(FILE), |name| (name != "THREE").then(String::new)), None);
    }
}
