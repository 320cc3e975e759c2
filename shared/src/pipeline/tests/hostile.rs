//! Nothing in a file makes the parser panic, or take long.

use std::time::Duration;

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::*;

fn survives(bytes: &[u8]) {
    match parse_bytes("f", bytes) {
        Ok(pipeline) => {
            let planned = plan(&pipeline, &context());
            let shown = planned.map_or_else(|error| error.to_string(), |plan| format!("{plan:?}"));
            assert!(!shown.is_empty());
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            assert!(!render(&diagnostics).is_empty());
        }
    }
}

/// Pieces that mean something to some part of the parser.
const PIECES: [&str; 40] = [
    "pipeline:",
    "steps:",
    "- name: a",
    "image: i",
    "commands: [x]",
    "\n",
    "\n  ",
    "\n    ",
    "\n      ",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ", ",
    "&a ",
    "*a",
    "<<: ",
    "!t ",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "${git.branch}",
    "${{ secrets.A }}",
    "${",
    "$(",
    "`",
    "<<'EOF'\n",
    "<<EOF\n",
    "EOF\n",
    "#",
    "\\",
    "---",
    "\u{feff}",
    "\0",
    "é",
    "timeout: 1h",
    "on: { schedule: \"* * * * *\" }",
    "\t",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survives(&bytes);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        survives(text.as_bytes());
        survives(one_step(&format!("environment: {{ A: {text} }}")).as_bytes());
    }

    #[test]
    fn any_pieces(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)) {
        survives(pieces.concat().as_bytes());
        survives(format!("pipeline:\n  steps:\n    - {}", pieces.concat()).as_bytes());
    }

    #[test]
    fn a_file_with_bytes_replaced(
        at in 0..FULL.len(),
        removed in 0..20_usize,
        put in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, put);
        survives(&bytes);
    }

    #[test]
    fn a_file_with_pieces_put_in(at in 0..FULL.len(), piece in proptest::sample::select(&PIECES[..])) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes.splice(at..at, piece.bytes());
        survives(&bytes);
    }

    #[test]
    fn any_command(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..40)) {
        let mut pipeline = parsed(&one_step(""));
        pipeline.steps[0].commands = vec![pieces.concat()];
        let planned = plan(&pipeline, &context());
        // A command without references stays as it is.
        if !pieces.concat().contains("${") {
            prop_assert_eq!(&planned.expect("a plan").steps[0].commands[0].shell, &pieces.concat());
        }
    }

    #[test]
    fn any_value_of_a_key(key in 0..13_usize, value in "[ -~é]{0,20}") {
        let keys = [
            "timeout", "retry", "allow_failure", "when", "outputs", "resources", "deploy", "on_lost",
            "depends_on", "environment", "name2", "image2", "commands2",
        ];
        survives(one_step(&format!("{}: {value}", keys[key])).as_bytes());
        survives(beside_steps(&format!("on: {{ schedule: \"{value}\" }}")).as_bytes());
        survives(beside_steps(&format!("on: {{ push: {{ branches: [\"{value}\"] }} }}")).as_bytes());
    }
}

/// What this thread has taken of the processor, since a busy machine makes nothing quadratic.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

fn told_quickly(source: &str) -> Vec<Rule> {
    let start = processor_time();
    let found = parse("f", source).expect_err("problems");
    let took = processor_time() - start;
    assert!(took < Duration::from_secs(20), "took {took:?}");
    found.iter().map(|diagnostic| diagnostic.rule).collect()
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut source = "pipeline:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        source.push_str(&format!("  a{level}: &a{level} [{below}]\n"));
    }
    assert_eq!(told_quickly(&source), [Rule::TooManyValues]);
    let long = format!("pipeline:\n  a: &a {}\n  b: [{}]\n", "x".repeat(500_000), "*a, ".repeat(1000));
    assert_eq!(told_quickly(&long), [Rule::TooManyValues]);
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{a: "] {
        assert_eq!(told_quickly(&format!("pipeline: {}", open.repeat(100_000))), [Rule::NestingTooDeep]);
    }
    assert_eq!(told_quickly(&"- ".repeat(100_000)), [Rule::NestingTooDeep]);
    assert_eq!(told_quickly(&"? ".repeat(100_000)), [Rule::NestingTooDeep]);
}

#[test]
fn a_large_file_is_refused_before_it_is_read() {
    assert_eq!(told_quickly(&"#".repeat(MOST_BYTES + 1)), [Rule::FileTooLarge]);
}

#[test]
fn bytes_that_are_no_text_are_pointed_at() {
    let found = parse_bytes("f", b"pipeline:\n  name: \xff\xfe\n").expect_err("a problem");
    let places: Vec<_> = found.iter().map(|found| (found.rule, found.line, found.column)).collect();
    assert_eq!(places, [(Rule::NotUtf8, 2, 9)]);
    assert!(parse_bytes("f", &[0xff; 2 * MOST_BYTES]).is_err());
}

#[test]
fn a_flood_of_problems_is_counted_and_not_listed() {
    let keys: String = (0..50_000).map(|key| format!("  key{key}: x\n")).collect();
    let found = told_quickly(&format!("pipeline:\n{keys}  steps: []\n"));
    assert_eq!(found.len(), 201);
    assert_eq!(found.last(), Some(&Rule::TooManyProblems));
}

#[test]
fn large_commands_take_no_quadratic_time() {
    let start = processor_time();
    for piece in [
        "$(",
        "`",
        "$(`",
        "<<'a'\n",
        "<<a\n",
        "<<'a' ",
        "${x:-",
        "'${git.sha}",
        "$(( ",
        "\"`",
        "<<'a'\n${git.sha}\na\n",
    ] {
        let mut pipeline = parsed(&one_step(""));
        pipeline.steps[0].commands = vec![piece.repeat(300_000 / piece.len())];
        assert!(plan(&pipeline, &context()).is_ok());
    }
    let took = processor_time() - start;
    assert!(took < Duration::from_secs(30), "took {took:?}");
}

#[test]
fn a_long_chain_of_steps_takes_no_deep_recursion() {
    let chain: String = (0..490)
        .map(|at| format!("    - {{ name: s{at}, image: i, commands: [x], depends_on: [s{}] }}\n", at + 1))
        .collect();
    let last = "    - { name: s490, image: i, commands: [x], depends_on: [s0] }\n";
    assert_eq!(told_quickly(&format!("pipeline:\n  steps:\n{chain}{last}")), [Rule::CircularDependency]);
}

#[test]
fn large_files_take_no_quadratic_time() {
    let entries = |entry: &dyn Fn(usize) -> String, most: usize| (0..most).map(entry).collect::<String>();
    let environment = |values: &str| format!("pipeline:\n  steps:\n    - environment: {{ {values} }}\n");
    let files = [
        // Each value holds the next one and the first.
        environment(&entries(&|at| format!("V{at}: \"${{env.V{}}}${{env.V0}}\", ", at + 1), 25_000)),
        environment(&format!("A: \"\\x41{}\"", "${no.x}".repeat(100_000))),
        format!("pipeline: {{ steps: [&a {{ b: 1 }}, {}] }}", "*a, ".repeat(200_000)),
        format!("pipeline: {{ on: {{ schedule: [{}] }} }}", "{ cron: 0 0 31 2 *, timezone: X }, ".repeat(29_000)),
        format!("pipeline: {{ on: {{ push: [{}] }} }}", "'[a-', ".repeat(100_000)),
        format!("pipeline: {{ on: {{ push: {{ tags: [{}] }} }}, x: 1 }}", "'{a,b}*', ".repeat(100_000)),
        format!(
            "pipeline:\n  steps:\n{}",
            entries(&|at| format!("    - {{ name: s{at}, depends_on: [s{}, s0, x] }}\n", at + 1), 20_000)
        ),
        format!("pipeline: {{ {} }}", entries(&|at| format!("k{at}: x, "), 80_000)),
    ];
    for (index, file) in files.iter().enumerate() {
        assert!(file.len() < MOST_BYTES, "{index}");
        let start = processor_time();
        assert!(parse("f", file).is_err(), "{index}");
        let took = processor_time() - start;
        assert!(took < Duration::from_secs(10), "file {index} took {took:?}");
    }
}
