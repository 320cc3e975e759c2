//! Files that are wrong, and what is said about each.

use super::*;

/// Each file, with what is said about it.
fn told(files: &[(&str, String)]) -> String {
    let mut told = String::new();
    for (name, source) in files {
        told.push_str(&format!("======== {name}\n{}\n\n", source.trim_end()));
        told.push_str(&format!("{}\n", diagnosed(source)));
    }
    told
}

fn file(lines: &str) -> String {
    lines.to_owned()
}

#[test]
fn the_file_as_a_whole() {
    insta::assert_snapshot!(told(&[
        ("empty", file("")),
        ("only_a_comment", file("# nothing here\n")),
        ("null", file("~")),
        ("no_mapping", file("just words")),
        ("no_pipeline", file("steps:\n  - name: a\n")),
        ("pipeline_is_null", file("pipeline:\n")),
        ("two_documents", file("pipeline: {}\n---\npipeline: {}\n")),
        ("broken_syntax", file("pipeline:\n  steps: [a, b\n  name: x\n")),
        ("tabs", file("pipeline:\n\tname: x\n")),
        ("unclosed_quote", file("pipeline:\n  name: \"x\n  steps: []\n")),
        ("bad_indentation", file("pipeline:\n  name: x\n steps: []\n")),
        ("directive", file("%YAML 1.1\n---\npipeline: {}\n")),
        ("variable_without_quotes", file("pipeline:\n  steps: [{ name: a, image: i, commands: [echo ${git.sha}] }]\n")),
        ("no_steps", file("pipeline: { name: x }\n")),
        ("empty_steps", file("pipeline:\n  steps: []\n")),
        ("steps_no_list", file("pipeline:\n  steps: { a: b }\n")),
        ("step_no_mapping", file("pipeline:\n  steps: [build, [a]]\n")),
        ("duplicate_key", file("pipeline:\n  name: a\n  name: b\n  steps: [{ name: a, image: i, commands: [x] }]\n")),
        ("complex_key", file("pipeline:\n  ? [a, b]\n  : c\n  steps: []\n")),
        ("tag", file("pipeline:\n  name: !!str x\n  steps: !custom []\n")),
        ("unknown_alias", file("pipeline:\n  name: *nobody\n  steps: *nothing\n")),
        ("alias_in_itself", file("pipeline: &all\n  name: x\n  steps: [*all]\n")),
        ("merge_of_no_mapping", file("pipeline:\n  <<: x\n  steps: []\n")),
        ("nul", file("pipeline: { name: \"a\\0b\", steps: [] }")),
    ]));
}

#[test]
fn keys_and_types_of_a_step() {
    insta::assert_snapshot!(told(&[
        (
            "missing_keys",
            file("pipeline:\n  steps:\n    - name: a\n    - image: rust\n    - commands: [x]\n    - {}\n"),
        ),
        ("unknown_keys", one_step("imge: rust\ntimout: 3m\nzebra: 1\nDepends_On: []")),
        (
            "unknown_keys_elsewhere",
            beside_steps(
                "variabels: {}\nconcurrency: { group: a, cancel: true }\nartifacts: [{ name: a, path: b, expire: 1d }]",
            ),
        ),
        (
            "wrong_types",
            one_step(
                "environment: [A=b]\ndepends_on: { a: b }\ntimeout: [1h]\nretry: twice\nallow_failure: yes\nwhen: main\noutputs: 3\nresources: 2Gi",
            ),
        ),
        ("quoted_numbers", one_step("retry: \"1\"\nallow_failure: \"true\"")),
        ("commands_a_text", file("pipeline:\n  steps:\n    - { name: a, image: i, commands: make }\n")),
        ("commands_empty", file("pipeline:\n  steps:\n    - { name: a, image: i, commands: [] }\n")),
        (
            "command_a_mapping",
            file(
                "pipeline:\n  steps:\n    - name: a\n      image: i\n      commands:\n        - echo \"a\": b\n        - [x]\n        -\n",
            ),
        ),
        ("empty_values", one_step("environment: { A: , B: ~ }\ndeploy: \"\"").replace("rust:1.95", "\" \"")),
        ("retry_bounds", one_step("retry: 11")),
        ("retry_negative", one_step("retry: -1")),
        ("retry_fraction", one_step("retry: 1.5")),
        (
            "timeouts",
            file(
                "pipeline:\n  steps:\n    - { name: a, image: i, commands: [x], timeout: 30 }\n    - { name: b, image: i, commands: [x], timeout: 0s }\n    - { name: c, image: i, commands: [x], timeout: 8d }\n    - { name: d, image: i, commands: [x], timeout: 1 hour }\n",
            ),
        ),
        ("quantities", one_step("resources: { cpu: two, memory: 2GB }")),
        ("quantities_out_of_range", one_step("resources: { cpu: 0, memory: 1Ki, disk: 1Gi }")),
        ("on_lost", one_step("on_lost: retri")),
        ("when_values", one_step("when: { branch: [\"release/[\", \"\"], event: [pusch, tag], tag: v1 }")),
        ("deploy_name", one_step("deploy: a/b")),
    ]));
}

#[test]
fn names_and_the_graph() {
    let steps = |steps: &[(&str, &str)]| {
        let mut source = file("pipeline:\n  steps:\n");
        for (name, parents) in steps {
            source.push_str(&format!("    - {{ name: {name}, image: i, commands: [x], depends_on: {parents} }}\n"));
        }
        source
    };
    insta::assert_snapshot!(told(&[
        ("step_names", steps(&[("Build", "[]"), ("a_b", "[]"), ("-a", "[]"), ("\"\"", "[]"), (&"a".repeat(64), "[]")])),
        ("duplicate_steps", steps(&[("a", "[]"), ("b", "[]"), ("a", "[]"), ("a", "[]")])),
        ("unknown_step", steps(&[("build", "[]"), ("test", "[biuld, nobody]")])),
        ("depends_on_itself", steps(&[("a", "[a]")])),
        ("circle_of_two", steps(&[("a", "[b]"), ("b", "[a]")])),
        (
            "circle_of_three",
            steps(&[("start", "[]"), ("a", "[start, c]"), ("b", "[a]"), ("c", "[b]"), ("d", "[c, d]")]),
        ),
        (
            "duplicate_artifacts",
            beside_steps(
                "artifacts:\n- { name: a, path: x }\n- { name: a, path: y }\n- { name: a/b, path: z }\n- word",
            ),
        ),
        ("pipeline_name", beside_steps("name: \"a\\nb\"")),
    ]));
}

#[test]
fn images_paths_and_patterns() {
    insta::assert_snapshot!(told(&[
        ("image_invalid", one_step("").replace("rust:1.95", "Rust:1.95")),
        ("image_with_space", one_step("").replace("rust:1.95", "rust 1.95")),
        ("image_with_secret", one_step("").replace("rust:1.95", "\"${{ secrets.REGISTRY }}/rust\"")),
        (
            "image_with_secret_by_environment",
            one_step("environment: { A: \"${env.B}\", B: \"${secrets.X}\" }").replace("rust:1.95", "\"app:${env.A}\""),
        ),
        ("paths", one_step("outputs: [/etc/passwd, ../x, a/../b, \"\", \"a/[\", target/**/ok]")),
        (
            "artifact_paths",
            beside_steps(
                "artifacts:\n- { name: a, path: / }\n- { name: b, path: \"{a\", expires: never, when: sometimes }\n- { name: c, path: [x] }",
            ),
        ),
    ]));
}

#[test]
fn triggers_and_concurrency() {
    insta::assert_snapshot!(told(&[
        ("unknown_event", beside_steps("on: [push, merge_request, api]")),
        ("unknown_trigger", beside_steps("on: { pull: {}, api: {} }")),
        ("trigger_types", beside_steps("on: { push: main, mr: [opened], schedule: {} }")),
        ("trigger_patterns", beside_steps("on: { push: { branches: [\"a{b\"], tags: [\"[z-a]\"] } }")),
        ("mr_actions", beside_steps("on: { mr: { actions: [open, synchronise] } }")),
        ("mr_no_actions", beside_steps("on: { mr: { actions: [] } }")),
        (
            "cron",
            beside_steps(
                "on: { schedule: [\"0 3 * *\", \"61 * * * *\", \"* * * * * *\", hourly, \"0 0 31 2 *\", \"\"] }",
            ),
        ),
        ("time_zone", beside_steps("on: { schedule: { cron: 0 3 * * *, timezone: Europe/Berln } }")),
        ("time_zone_unknown", beside_steps("on: { schedule: { cron: 0 3 * * *, timezone: \"12:00 sharp\" } }")),
        (
            "concurrency",
            beside_steps(
                "concurrency: { group: \"${secrets.A} ${env.B} ${step.name} ${custom.c}\", cancel_in_progress: 1 }",
            ),
        ),
        ("concurrency_a_word", beside_steps("concurrency: main")),
    ]));
}

#[test]
fn variables() {
    insta::assert_snapshot!(told(&[
        ("unknown_variables", one_step("environment:\n  A: ${git.brnch}\n  B: \"${custom.profil} ${{ secret.TOKEN }}\"\n  C: ${foo.bar} and ${git.branch:-main}").replace("cargo test", "'echo ${env.AA} ${env.HOME} ${git.shaa}'")),
        ("unknown_custom", file("pipeline:\n  variables: { profile: ci }\n  steps:\n    - name: a\n      image: rust:${custom.profil}\n      commands:\n        - |\n          echo fine\n          echo ${custom.profile} ${custom.prefile}\n")),
        ("unclosed_variable", one_step("environment: { A: \"${git.sha\", B: \"${{ git.sha }\", C: \"${{x}}\" }")),
        ("comments_are_ignored", one_step("").replace("[cargo test]", "[\"# ${no.such}\", \"echo ${no.such}\"]")),
        ("environment_names", one_step("environment: { 1A: x, a-b: x, \"\": x, BUILDIT_SECRET_X: x, OK_1: x }")),
        ("circular_environment", one_step("environment: { A: \"${env.B}\", B: \"${env.A}\", C: \"${env.C}\" }")),
        ("custom_names", beside_steps("variables: { a.b: x, \"1\": y, ok-key: z, list: [a] }")),
        ("custom_values", beside_steps("variables: { a: \"${custom.b} ${env.A} ${secrets.B} ${git.sha}\" }")),
        ("here_document", one_step("").replace("[cargo test]", "\n        - |\n          cat <<'END OF IT'\n          ${git.branch}\n          END OF IT\n        - |\n          X=`cat <<'EOF'\n          ${git.branch}\n          EOF`\n")),
        ("arithmetic", one_step("").replace("cargo test", "\"echo $(( ${git.branch} + ${run.number} ))\"")),
    ]));
}

#[test]
fn all_problems_are_told_in_one_go() {
    let source = "pipeline:
  steps:
    - name: Build
      imge: rust
      commands: cargo build
    - name: test
      image: rust
      commands: [\"echo ${git.brnch}\"]
      depends_on: [biuld]
      timeout: soon
  on: { schedule: never }
";
    insta::assert_snapshot!(diagnosed(source), @r##"
error[missing-key]: a step needs the key `image`
 --> .platform.yaml:3:7
  |
3 |     - name: Build
  |       ^^^^^^^^^^^

error[bad-name]: `Build` is no name for a step
 --> .platform.yaml:3:13
  |
3 |     - name: Build
  |             ^^^^^
  = help: use 1 to 63 lower-case letters, digits and `-`, and no `-` at either end

error[unknown-key]: `imge` is not a key of a step
 --> .platform.yaml:4:7
  |
4 |       imge: rust
  |       ^^^^
  = help: did you mean `image`?

error[wrong-type]: `commands` must be a list, this is a single value
 --> .platform.yaml:5:17
  |
5 |       commands: cargo build
  |                 ^^^^^^^^^^^
  = help: write `commands: [ … ]`, or one value a line with `- ` before it

error[unknown-variable]: there is no variable `git.brnch`
 --> .platform.yaml:8:24
  |
8 |       commands: ["echo ${git.brnch}"]
  |                        ^^^^^^^^^^^^
  = help: did you mean `git.branch`?

error[unknown-step]: there is no step `biuld`
 --> .platform.yaml:9:20
  |
9 |       depends_on: [biuld]
  |                    ^^^^^
  = help: did you mean `Build`?

error[bad-duration]: `soon` is no duration
  --> .platform.yaml:10:16
   |
10 |       timeout: soon
   |                ^^^^
   = help: write numbers with `d`, `h`, `m` and `s`, as in `1h30m`

error[bad-cron]: `never` is no schedule: it does not have five fields
  --> .platform.yaml:11:19
   |
11 |   on: { schedule: never }
   |                   ^^^^^
   = help: write five fields: minute, hour, day of the month, month, day of the week
"##);
}

#[test]
fn a_diagnostic_is_also_json() {
    let diagnostics = parse("ci.yaml", &one_step("timout: 3m")).expect_err("a problem");
    insta::assert_json_snapshot!(diagnostics, @r##"
[
  {
    "rule": "unknown-key",
    "message": "`timout` is not a key of a step",
    "file": "ci.yaml",
    "line": 6,
    "column": 7,
    "source_line": "      timout: 3m",
    "source_offset": 6,
    "length": 6,
    "help": "did you mean `timeout`?"
  }
]
"##);
    let stored = serde_json::to_string(&diagnostics).expect("serializes");
    let read: Vec<Diagnostic> = serde_json::from_str(&stored).expect("deserializes");
    assert_eq!(read, diagnostics);
}

#[test]
fn one_problem_that_an_alias_repeats_is_told_once() {
    let source = "pipeline:
  steps:
    - { name: a, image: i, commands: [x], environment: &env { A: \"${x.y}\" } }
    - { name: b, image: i, commands: [x], environment: *env }
";
    assert_eq!(parse("f", source).expect_err("a problem").len(), 1);
}

#[test]
fn a_terminal_is_safe_from_the_file() {
    let source = one_step("\"\\e[2J\\u202e\\a\": x\nimge: \"\u{202e}\"");
    let text = diagnosed(&source);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(!text.contains('\u{202e}'), "{text:?}");
}

#[test]
fn a_long_line_is_shown_around_the_problem() {
    let source = beside_steps(&format!("name: {{ a: {} }}, x", "long ".repeat(10_000)));
    assert!(diagnosed(&source).len() < 2000);
    let wide = format!("pipeline: {{ {}imge: x, steps: [] }}", " ".repeat(5000));
    let found = parse("f", &wide).expect_err("problems");
    assert_eq!(found[0].column, 5014 - 1);
    let caret: String = found[0].source_line.chars().skip(found[0].source_offset).take(4).collect();
    assert_eq!((caret.as_str(), found[0].length), ("imge", 4));
}
