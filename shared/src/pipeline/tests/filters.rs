//! Which events start a run, and which steps take part.

use super::*;
use crate::pipeline::filters::{admits, takes_part};

fn mr(action: MrAction) -> Event {
    Event { action: Some(action), ..Event::at(EventKind::Mr, "refs/heads/feature/x") }
}

fn verdict(on: &str, event: &Event) -> String {
    match admits(&parsed(&beside_steps(on)), event) {
        Ok(()) => "runs".to_owned(),
        Err(reason) => reason,
    }
}

#[test]
fn events_against_on() {
    let events = [
        ("push main", Event::push("refs/heads/main")),
        ("push feature/a/b", Event::push("refs/heads/feature/a/b")),
        ("push release/1", Event::push("refs/heads/release/1")),
        ("push release/1/x", Event::push("refs/heads/release/1/x")),
        ("tag v1.2", Event::push("refs/tags/v1.2")),
        ("notes", Event::push("refs/notes/commits")),
        ("mr opened", mr(MrAction::Opened)),
        ("mr closed", mr(MrAction::Closed)),
        ("api", Event::at(EventKind::Api, "main")),
        ("schedule", Event::at(EventKind::Schedule, "main")),
    ];
    let filters = [
        "name: without on",
        "on: push",
        "on: [mr]",
        "on: {}",
        "on: { push: { branches: [main, \"release/*\", \"feature/**\"] } }",
        "on: { push: { tags: \"v*\" } }",
        "on: { push: { branches: [main], tags: [] } }",
        "on: { mr: { actions: [closed, merged] }, schedule: 0 3 * * * }",
    ];
    let mut table = String::new();
    for on in filters {
        table.push_str(&format!("{on}\n"));
        for (name, event) in &events {
            table.push_str(&format!("  {name:<17} {}\n", verdict(on, event)));
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn steps_against_when() {
    let part = |when: &str, event: &Event| {
        let pipeline = parsed(&one_step(when));
        takes_part(&pipeline.steps[0], event)
    };
    let main = Event::push("refs/heads/main");
    let tag = Event::push("refs/tags/v1");
    assert_eq!(part("", &tag), Ok(()));
    assert_eq!(part("when: {}", &tag), Ok(()));
    assert_eq!(part("when: { branch: main }", &main), Ok(()));
    assert_eq!(part("when: { branch: \"[a-m]*\", event: push }", &main), Ok(()));
    assert_eq!(part("when: { branch: \"{main,develop}\" }", &main), Ok(()));
    let reasons = [
        part("when: { branch: main }", &tag),
        part("when: { branch: [\"release/*\", develop] }", &main),
        part("when: { branch: [] }", &main),
        part("when: { event: [api, schedule] }", &main),
        part("when: { branch: main, event: mr }", &mr(MrAction::Opened)),
    ]
    .map(|reason| reason.expect_err("takes no part"));
    insta::assert_snapshot!(reasons.join("\n"), @r##"
The run is not of a branch, and the step has a `when.branch`.
The branch `main` matches nothing in `when.branch`, which has `release/*`, `develop`.
The branch `main` matches nothing in `when.branch`, which has no entry.
The run was started by `push`, and the step's `when.event` names only `api`, `schedule`.
The branch `feature/x` matches nothing in `when.branch`, which has `main`.
"##);
}

#[test]
fn references_name_branches_and_tags() {
    let at = |name| {
        let event = Event::push(name);
        (event.branch, event.tag)
    };
    assert_eq!(at("refs/heads/a/b"), (Some("a/b".to_owned()), None));
    assert_eq!(at("refs/tags/v1"), (None, Some("v1".to_owned())));
    assert_eq!(at("main"), (Some("main".to_owned()), None));
    assert_eq!(at("refs/merge/1"), (None, None));
    assert_eq!(at(""), (None, None));
}
