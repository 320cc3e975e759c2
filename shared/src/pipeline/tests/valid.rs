//! Files that are right, and what they mean.

use std::time::Duration;

use super::*;

#[test]
fn every_key_of_the_format_is_read() {
    insta::assert_json_snapshot!(parsed(FULL));
}

#[test]
fn a_definition_survives_being_stored() {
    let pipeline = parsed(FULL);
    let stored = serde_json::to_value(&pipeline).expect("serializes");
    let read: Pipeline = serde_json::from_value(stored).expect("deserializes");
    assert_eq!(read, pipeline);
}

#[test]
fn a_step_needs_only_name_image_and_commands() {
    let step = parsed(&one_step("")).steps.remove(0);
    assert_eq!(step.timeout, Duration::from_secs(3600));
    assert_eq!((step.retry, step.allow_failure), (0, false));
    assert_eq!((step.depends_on, step.when.clone()), (None, None));
    assert_eq!(step.resources, Resources::default());
}

#[test]
fn without_depends_on_steps_form_a_sequence() {
    let pipeline = parsed(
        "pipeline: { steps: [
            { name: a, image: i, commands: [x] },
            { name: b, image: i, commands: [x] },
            { name: c, image: i, commands: [x] } ] }",
    );
    assert_eq!(pipeline.dependencies(), [vec![], vec![0], vec![1]]);
}

#[test]
fn one_depends_on_makes_the_file_a_graph() {
    let pipeline = parsed(
        "pipeline: { steps: [
            { name: d, image: i, commands: [x], depends_on: [c, b, c] },
            { name: b, image: i, commands: [x], depends_on: a },
            { name: c, image: i, commands: [x], depends_on: [a] },
            { name: a, image: i, commands: [x] } ] }",
    );
    assert_eq!(pipeline.dependencies(), [vec![1, 2], vec![3], vec![3], vec![]]);
}

#[test]
fn an_empty_depends_on_makes_the_file_a_graph_too() {
    let pipeline = parsed(
        "pipeline: { steps: [
            { name: a, image: i, commands: [x] },
            { name: b, image: i, commands: [x], depends_on: [] } ] }",
    );
    assert_eq!(pipeline.dependencies(), [vec![], vec![]] as [Vec<usize>; 2]);
}

#[test]
fn what_deploys_is_not_repeated_when_its_node_is_lost() {
    let lost = |lines| parsed(&one_step(lines)).steps[0].on_lost();
    assert_eq!(lost(""), OnLost::Retry);
    assert_eq!(lost("deploy: production"), OnLost::Fail);
    assert_eq!(lost("deploy: production\non_lost: retry"), OnLost::Retry);
}

#[test]
fn numbers_and_truth_values_are_texts_where_texts_are_wanted() {
    let step = parsed(&one_step("environment: { PORT: 8080, DEBUG: true, EMPTY: \"\" }")).steps.remove(0);
    let environment: Vec<_> = step.environment.values().map(String::as_str).collect();
    assert_eq!(environment, ["true", "", "8080"]);
    let step = &parsed("pipeline: { steps: [ { name: 1, image: 2, commands: [true, no, 3] } ] }").steps[0];
    assert_eq!((step.name.as_str(), step.image.as_str()), ("1", "2"));
    assert_eq!(step.commands, ["true", "no", "3"]);
}

#[test]
fn on_has_short_forms() {
    let on = |lines: &str| parsed(&beside_steps(lines)).on.expect("triggers");
    let both = Triggers { push: Some(PushTrigger::default()), mr: Some(MrTrigger::default()), schedule: Vec::new() };
    assert_eq!(on("on: [push, mr]"), both);
    assert_eq!(on("on: { push: , mr: {} }"), both);
    assert_eq!(on("on: push"), Triggers { mr: None, ..both });
    let night = Schedule { cron: "0 3 * * *".to_owned(), timezone: "UTC".to_owned() };
    assert_eq!(on("on: { schedule: 0 3 * * * }").schedule, std::slice::from_ref(&night));
    assert_eq!(on("on: { schedule: { cron: 0 3 * * * } }").schedule, std::slice::from_ref(&night));
    assert_eq!(on("on: { schedule: [0 3 * * *, 0 3 * * *] }").schedule, [night.clone(), night]);
}

#[test]
fn anchors_and_merge_keys_save_repetition() {
    let pipeline = parsed(
        "pipeline:
  steps:
    - &first
      name: a
      image: &image rust:1.95
      commands: [x]
      environment: &env { A: one, B: two }
    - { <<: *first, name: b, retry: 2 }
    - name: c
      image: *image
      commands: [x]
      environment: { <<: [*env, { C: three }], A: own }
",
    );
    let [a, b, c] = pipeline.steps.as_slice() else { panic!("three steps") };
    assert_eq!((&b.image, b.retry, &b.environment), (&a.image, 2, &a.environment));
    let environment: Vec<_> = c.environment.values().map(String::as_str).collect();
    assert_eq!(environment, ["own", "two", "three"]);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    let windows = format!("\u{feff}{}", FULL.replace('\n', "\r\n"));
    assert_eq!(parsed(&windows), parsed(FULL));
    assert_eq!(parse_bytes("f", windows.as_bytes()), Ok(parsed(FULL)));
}
