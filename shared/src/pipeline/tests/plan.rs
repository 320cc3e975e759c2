//! From a file and a run's facts to its steps.

use super::*;

fn planned(source: &str) -> Plan {
    plan(&parsed(source), &context()).expect("a plan")
}

fn refused(source: &str, context: &Context) -> Vec<String> {
    plan(&parsed(source), context).expect_err("no plan").problems
}

fn text(step: &PlannedStep, name: &str) -> String {
    step.environment[name].as_text().expect("no secret")
}

#[test]
fn every_fact_of_the_run_reaches_its_steps() {
    insta::assert_json_snapshot!(planned(FULL));
}

#[test]
fn a_plan_survives_being_stored() {
    let plan = planned(FULL);
    let stored = serde_json::to_value(&plan).expect("serializes");
    assert_eq!(serde_json::from_value::<Plan>(stored).expect("deserializes"), plan);
}

#[test]
fn every_variable_has_its_value_in_the_environment() {
    let source = one_step(
        "environment:
  A: ${git.sha} ${git.short_sha} ${git.branch} ${git.ref}
  B: ${git.message}, ${git.author}
  C: ${pipeline.id} ${pipeline.name} ${run.id} ${run.number}
  D: ${stage.name} ${stage.index} ${step.name} ${{step.index}}
  E: ${env.A} ${env.COMMIT_SHA}
  F: ${HOME} $HOME $${git.sha} $$ ${",
    );
    let step = planned(&source).steps.remove(0);
    let values: Vec<_> = ["A", "B", "C", "D", "E", "F"].map(|name| text(&step, name)).into();
    insta::assert_snapshot!(values.join("\n"), @r##"
0123456789abcdef0123456789abcdef01234567 0123456 main refs/heads/main
Mend the door, Ada <ada@example.org>
0199-pipeline stored 0199-run 7
test 0 test 0
0123456789abcdef0123456789abcdef01234567 0123456 main refs/heads/main 0123456789abcdef0123456789abcdef01234567
${HOME} $HOME ${git.sha} $$ ${
"##);
}

#[test]
fn the_file_names_the_pipeline() {
    let named = |name: &str| {
        let source = beside_steps(&format!("{name}\nconcurrency: {{ group: \"${{pipeline.name}}\" }}"));
        planned(&source).concurrency.expect("a group").group
    };
    assert_eq!(named("name: web"), "web");
    assert_eq!(named("variables: {}"), "stored");
}

#[test]
fn the_platform_wins_over_the_file() {
    let source = one_step("environment: { CI: no, COMMIT_SHA: x, MINE: \"${env.COMMIT_SHA}\" }");
    let step = planned(&source).steps.remove(0);
    assert_eq!(text(&step, "CI"), "true");
    assert_eq!(text(&step, "COMMIT_SHA"), context().sha);
    assert_eq!(text(&step, "MINE"), context().sha);
}

#[test]
fn custom_variables_may_hold_facts_of_the_run() {
    let step = planned(
        "pipeline:
  variables: { tag: \"v-${git.short_sha}\" }
  steps: [{ name: a, image: \"${env.REGISTRY}/app:${custom.tag}\", commands: [\"echo ${custom.tag}\"] }]",
    )
    .steps
    .remove(0);
    assert_eq!(step.image, "registry.local:5000/app:v-0123456");
    assert_eq!(step.commands[0].shell, "echo \"${BUILDIT_CUSTOM_TAG}\"");
    assert_eq!(text(&step, "BUILDIT_CUSTOM_TAG"), "v-0123456");
}

#[test]
fn names_of_custom_variables_do_not_meet() {
    let keys = ["a-b", "a_b", "A_b", "aB", "Ab", "a--b", "adb", "aub"];
    let name = |key: &str| {
        let variable = crate::pipeline::variables::Variable::parse(&format!("custom.{key}"));
        variable.expect("a variable").environment_name()
    };
    let names: std::collections::BTreeSet<_> = keys.iter().map(|key| name(key)).collect();
    assert_eq!(names.len(), keys.len(), "{names:?}");
}

#[test]
fn secrets_stay_references_until_they_are_rendered() {
    let source = one_step("environment: { URL: \"https://u:${secrets.PASS}@host\", COPY: \"${env.URL}\" }")
        .replace("cargo test", "'login ${{ secrets.TOKEN }}'");
    let step = planned(&source).steps.remove(0);
    assert_eq!(step.secret_names().into_iter().collect::<Vec<_>>(), ["PASS", "TOKEN"]);
    let stored = serde_json::to_string(&step).expect("serializes");
    let step: PlannedStep = serde_json::from_str(&stored).expect("deserializes");

    let rendered = step.render(|name| Some(format!("<{name}>"))).expect("all secrets");
    assert_eq!(rendered.commands, ["login \"${BUILDIT_SECRET_TOKEN}\""]);
    assert_eq!(rendered.environment["COPY"], "https://u:<PASS>@host");
    assert_eq!(rendered.environment["BUILDIT_SECRET_TOKEN"], "<TOKEN>");
    assert_eq!(rendered.secrets, ["<PASS>", "<TOKEN>"]);
    assert!(!format!("{rendered:?}").contains("<PASS>"));

    let missing = step.render(|name| (name == "PASS").then(String::new)).expect_err("one missing");
    assert_eq!(missing.to_string(), "The step needs secrets that are not set: TOKEN.");
}

#[test]
fn a_branch_cannot_make_an_invalid_image() {
    let source = one_step("").replace("rust:1.95", "\"app:${git.branch}\"");
    assert_eq!(planned(&source).steps[0].image, "app:main");
    let mut context = context();
    context.event = Event::push("refs/heads/feature/x y");
    assert_eq!(refused(&source, &context), ["Step `test`: `app:feature/x y` is no image, it holds a space."]);
}

#[test]
fn a_step_that_takes_no_part_says_why() {
    let step = planned(&one_step("when: { event: schedule }")).steps.remove(0);
    insta::assert_snapshot!(step.skipped.expect("a reason"), @r##"
The run was started by `push`, and the step's `when.event` names only `schedule`.
"##);
}

#[test]
fn what_no_parser_checked_is_refused_and_not_a_panic() {
    let mut pipeline = parsed(FULL);
    pipeline.steps[0].environment.insert("A".to_owned(), "${env.B}".to_owned());
    pipeline.steps[0].environment.insert("B".to_owned(), "${env.A}".to_owned());
    pipeline.steps[1].commands = vec!["echo ${git.brunch}".to_owned()];
    pipeline.concurrency = Some(Concurrency { group: "${secrets.X}".to_owned(), cancel_in_progress: false });
    let problems = plan(&pipeline, &context()).expect_err("no plan").problems;
    insta::assert_snapshot!(problems.join("\n"), @r##"
Step `test`: the value of `A` holds itself.
Step `image`: there is no variable `git.brunch`.
Concurrency: the concurrency group cannot hold a secret.
"##);
}

#[test]
fn values_that_hold_each_other_many_times_stay_small() {
    let doubling = |leaf: &str| {
        let mut pipeline = parsed(&one_step(""));
        let environment = &mut pipeline.steps[0].environment;
        environment.insert("V00".to_owned(), leaf.to_owned());
        for level in 1..60 {
            let below = format!("${{env.V{:02}}}", level - 1);
            environment.insert(format!("V{level:02}"), below.repeat(2));
        }
        plan(&pipeline, &context())
    };
    assert!(doubling("").is_ok());
    assert_eq!(doubling("x").expect_err("no plan").problems, ["Step `test`: the environment is larger than 1 MiB."]);
}

const PROFILES: &str = "
pipeline:
  variables: { profile: ci, jobs: '2' }
  steps:
    - name: test
      image: 'rust:${custom.profile}'
      commands: ['make ${custom.profile}', 'echo $(( ${custom.jobs} * 2 ))']
      environment: { SAID: 'with ${custom.profile}' }
";

fn given(variables: &[(&str, &str)]) -> Context {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Context { variables, ..context() }
}

#[test]
fn values_that_a_run_is_started_with_go_before_the_files() {
    let mut plan = plan(&parsed(PROFILES), &given(&[("profile", "release")])).expect("a plan");
    let step = plan.steps.remove(0);
    assert_eq!((step.image.as_str(), text(&step, "SAID").as_str()), ("rust:release", "with release"));
    assert_eq!(
        (text(&step, "BUILDIT_CUSTOM_PROFILE"), text(&step, "BUILDIT_CUSTOM_JOBS")),
        ("release".into(), "2".into())
    );
}

#[test]
fn such_a_value_is_text_and_reaches_neither_a_shell_nor_a_secret() {
    let source = PROFILES.replace("'rust:${custom.profile}'", "rust");
    let hostile = "$(id); `id` ${secrets.TOKEN} ${git.sha} '\"";
    let mut plan = plan(&parsed(&source), &given(&[("profile", hostile)])).expect("a plan");
    let step = plan.steps.remove(0);
    assert_eq!(step.commands[0].shell, "make \"${BUILDIT_CUSTOM_PROFILE}\"");
    assert_eq!(text(&step, "BUILDIT_CUSTOM_PROFILE"), hostile);
    assert_eq!(text(&step, "SAID"), format!("with {hostile}"));
    assert!(step.secret_names().is_empty());
}

#[test]
fn a_value_for_a_variable_that_the_file_does_not_have_is_refused() {
    let problems = refused(PROFILES, &given(&[("profil", "release"), ("something-else", "")]));
    assert_eq!(
        problems,
        [
            "The file's `variables` have no `profil`; did you mean `profile`?",
            "The file's `variables` have no `something-else`."
        ]
    );
}

#[test]
fn in_arithmetic_such_a_value_is_a_number() {
    assert!(plan(&parsed(PROFILES), &given(&[("jobs", "-7")])).is_ok());
    let problems = refused(PROFILES, &given(&[("jobs", "a[$(id)]")]));
    assert!(problems[0].contains("`custom.jobs` is used in arithmetic"), "{problems:?}");
}

#[test]
fn names_and_sizes_of_such_values_are_bounded() {
    let check = |name: &str, value: &str| check_given(&[(name.to_owned(), value.to_owned())].into());
    assert_eq!(check("a-b_C9", "anything at all, 'quoted' or not\n"), Ok(()));
    for name in ["", "9a", "-a", "a.b", "a b", "ä", &"a".repeat(101)] {
        assert!(check(name, "x").is_err(), "{name:?}");
    }
    assert!(check("a", &"x".repeat(33 << 10)).is_err());
    assert!(check("a", "nul\0").is_err());
    let many = (0..101).map(|n| (format!("a{n}"), String::new())).collect();
    assert!(check_given(&many).is_err());
}
