//! The tree of values into the definition.
//!
//! Reading goes on after a problem, with a stand-in for what could not be read, so that all
//! problems of a file are found at once. The definition is only used when there was none.

use std::collections::BTreeMap;

use super::check;
use super::definition::{
    Artifact, Concurrency, DEFAULT_TIMEOUT, EventKind, OnLost, Pipeline, Publish, Resources, Step, When,
};
use super::diagnostics::{Report, Rule, quote};
use super::fields::{
    Fields, at_most, choice, described_text, duration, filled, one_or_more, text, texts, truth, whole_number,
    wrong_type,
};
use super::graph::{Edges, graph};
use super::node::{Entry, Located, Node, Value};
use super::scope::{self, Scope};
use super::triggers;
use super::units;
use super::variables::is_custom_key;

const MOST_STEPS: usize = 500;
const MOST_ARTIFACTS: usize = 200;
const MOST_RETRIES: u32 = 10;
const LONGEST_TIMEOUT_DAYS: u64 = 7;
const LONGEST_EXPIRY_DAYS: u64 = 3650;
const MOST_CPU_MILLIS: u64 = 1_000_000;
const LEAST_MEMORY: u64 = 4 << 20;
const MOST_MEMORY: u64 = 16 << 40;

/// `None` when the file has no pipeline at all.
pub(super) fn pipeline(root: &Node, report: &mut Report<'_>) -> Option<Pipeline> {
    let file = Fields::read(report, root, "the file", &["pipeline"])?;
    let Some(node) = file.get("pipeline") else {
        let message = "the file needs the key `pipeline`";
        let help = "write `pipeline:` in the first line, and the rest indented below it";
        report.add_with_help(Rule::MissingKey, root.span, message, help);
        return None;
    };
    let keys = ["name", "variables", "steps", "artifacts", "on", "concurrency"];
    let fields = Fields::read(report, node, "a pipeline", &keys)?;
    let variables = fields.optional(report, "variables", variables).unwrap_or_default();
    let steps = fields.required(report, "steps");
    Some(Pipeline {
        name: fields.optional(report, "name", name),
        steps: steps.and_then(|node| all_steps(report, node, &variables)).unwrap_or_default(),
        artifacts: fields.optional(report, "artifacts", artifacts).unwrap_or_default(),
        on: fields.optional(report, "on", triggers::triggers),
        concurrency: fields.optional(report, "concurrency", |report, node, _| concurrency(report, node, &variables)),
        variables,
    })
}

fn name(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<String> {
    let name = filled(report, node, what)?;
    if name.value.chars().count() > 100 || name.value.chars().any(char::is_control) {
        let message = "a pipeline's name is one line of at most 100 characters";
        report.add(Rule::BadName, name.span, message);
    }
    Some(name.value)
}

/// The entries of a mapping from free names to texts.
fn named_texts(
    report: &mut Report<'_>,
    node: &Node,
    what: &'static str,
) -> Option<Vec<(Located<String>, Located<String>)>> {
    let Value::Map(entries) = &node.value else {
        wrong_type(report, node, &format!("`{what}`"), "a mapping from names to texts");
        return None;
    };
    let read = |Entry { key, value }: &Entry| {
        Some((key.clone(), described_text(report, value, &format!("a value of `{what}`"))?))
    };
    Some(entries.iter().filter_map(read).collect())
}

fn plain_map(entries: &[(Located<String>, Located<String>)]) -> BTreeMap<String, String> {
    let plain = |(key, value): &(Located<String>, Located<String>)| (key.value.clone(), value.value.clone());
    entries.iter().map(plain).collect()
}

fn variables(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<BTreeMap<String, String>> {
    let entries = named_texts(report, node, what)?;
    let scope = Scope { place: "`variables`", custom: None, environment: None, secrets: false };
    for (key, value) in &entries {
        if !is_custom_key(&key.value) {
            let message = format!("{} is no name for a variable", quote(&key.value));
            let help = "use letters, digits, `_` and `-`, and a letter or `_` in front";
            report.add_with_help(Rule::BadName, key.span, message, help);
        }
        scope.text(report, value);
    }
    Some(plain_map(&entries))
}

fn all_steps(report: &mut Report<'_>, node: &Node, variables: &BTreeMap<String, String>) -> Option<Vec<Step>> {
    let Value::List(items) = &node.value else {
        wrong_type(report, node, "`steps`", "a list");
        return None;
    };
    if items.is_empty() {
        report.add(Rule::EmptySteps, node.span, "a pipeline needs at least one step");
    }
    let items = at_most(report, node, items, "`steps`", MOST_STEPS);
    let mut steps = Vec::new();
    let mut edges = Vec::new();
    for item in items {
        if let Some((step, edge)) = step(report, item, variables) {
            steps.push(step);
            edges.push(edge);
        }
    }
    check::unique(report, "step", edges.iter().filter_map(|edge| edge.name.as_ref()));
    graph(report, &edges);
    Some(steps)
}

const STEP_KEYS: [&str; 13] = [
    "name",
    "image",
    "commands",
    "environment",
    "depends_on",
    "timeout",
    "retry",
    "allow_failure",
    "when",
    "outputs",
    "resources",
    "deploy",
    "on_lost",
];

fn step(report: &mut Report<'_>, node: &Node, variables: &BTreeMap<String, String>) -> Option<(Step, Edges)> {
    let fields = Fields::read(report, node, "a step", &STEP_KEYS)?;
    let name = fields.required(report, "name");
    let name = name.and_then(|node| step_name(report, node));

    let environment = fields.optional(report, "environment", named_texts).unwrap_or_default();
    let known = plain_map(&environment);
    let place = |place, secrets| Scope { place, custom: Some(variables), environment: Some(&known), secrets };
    scope::environment(report, &environment, &place("`environment`", true));

    let image = fields.required(report, "image");
    let image = image.and_then(|node| filled(report, node, "image"));
    if let Some(image) = &image {
        place("the image", false).text(report, image);
        scope::image(report, image, &known);
    }
    let commands = fields.required(report, "commands");
    let commands = commands.and_then(|node| commands_of(report, node)).unwrap_or_default();
    for command in &commands {
        place("a command", true).command(report, command);
    }
    let depends_on = fields.optional(report, "depends_on", one_or_more);
    let outputs = fields.optional(report, "outputs", one_or_more).unwrap_or_default();
    for output in &outputs {
        check::path(report, output);
    }
    let step = Step {
        name: name.clone().map(|name| name.value).unwrap_or_default(),
        image: image.map(|image| image.value).unwrap_or_default(),
        commands: values(commands),
        environment: known,
        depends_on: depends_on.clone().map(values),
        timeout: fields
            .optional(report, "timeout", |report, node, what| duration(report, node, what, LONGEST_TIMEOUT_DAYS))
            .unwrap_or(DEFAULT_TIMEOUT),
        retry: fields
            .optional(report, "retry", |report, node, what| whole_number(report, node, what, MOST_RETRIES))
            .unwrap_or_default(),
        allow_failure: fields.optional(report, "allow_failure", truth).unwrap_or_default(),
        when: fields.optional(report, "when", when),
        outputs: values(outputs),
        resources: fields.optional(report, "resources", resources).unwrap_or_default(),
        deploy: fields.optional(report, "deploy", plain_name).map(|name| name.value),
        on_lost: fields.optional(report, "on_lost", |report, node, what| {
            let text = text(report, node, what)?;
            choice(report, &text, what, &[("retry", OnLost::Retry), ("fail", OnLost::Fail)])
        }),
    };
    Some((step, Edges { name, depends_on: depends_on.unwrap_or_default() }))
}

fn values(texts: Vec<Located<String>>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}

/// A name that breaks the rule is kept, so that `depends_on` can still name it.
fn step_name(report: &mut Report<'_>, node: &Node) -> Option<Located<String>> {
    let name = text(report, node, "name")?;
    if !units::is_step_name(&name.value) {
        let message = format!("{} is no name for a step", quote(&name.value));
        let help = "use 1 to 63 lower-case letters, digits and `-`, and no `-` at either end";
        report.add_with_help(Rule::BadName, name.span, message, help);
    }
    Some(name)
}

fn plain_name(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Located<String>> {
    let name = filled(report, node, what)?;
    if !units::is_plain_name(&name.value) {
        let message = format!("{} cannot be used as `{what}`", quote(&name.value));
        let help = "use 1 to 63 letters, digits, `-`, `_` and `.`, a letter or digit in front";
        report.add_with_help(Rule::BadName, name.span, message, help);
    }
    Some(name)
}

fn commands_of(report: &mut Report<'_>, node: &Node) -> Option<Vec<Located<String>>> {
    let commands = texts(report, node, "commands")?;
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        report.add(Rule::OutOfRange, node.span, "a step needs at least one command");
    }
    Some(commands)
}

fn when(report: &mut Report<'_>, node: &Node, _: &'static str) -> Option<When> {
    let fields = Fields::read(report, node, "`when`", &["branch", "event"])?;
    let branch = fields.optional(report, "branch", one_or_more);
    check::patterns(report, branch.as_deref().unwrap_or_default());
    let event = fields.optional(report, "event", |report, node, what| {
        let names = one_or_more(report, node, what)?;
        let kinds =
            [EventKind::Push, EventKind::Mr, EventKind::Api, EventKind::Schedule].map(|kind| (kind.as_str(), kind));
        let kind = |name| choice(report, name, what, &kinds);
        Some(names.iter().filter_map(kind).collect())
    });
    Some(When { branch: branch.map(values), event })
}

fn resources(report: &mut Report<'_>, node: &Node, _: &'static str) -> Option<Resources> {
    let fields = Fields::read(report, node, "`resources`", &["cpu", "memory"])?;
    Some(Resources {
        cpu_millis: fields.optional(report, "cpu", |report, node, what| {
            let limits = 1..=MOST_CPU_MILLIS;
            let help = "write cores as `2`, `0.5` or `500m`, from `1m` to `1000`";
            quantity(report, node, what, units::cpu_millis, limits, help)
        }),
        memory_bytes: fields.optional(report, "memory", |report, node, what| {
            let limits = LEAST_MEMORY..=MOST_MEMORY;
            let help = "write bytes as `512Mi` or `2Gi`, from `4Mi` to `16Ti`";
            quantity(report, node, what, units::memory_bytes, limits, help)
        }),
    })
}

fn quantity(
    report: &mut Report<'_>,
    node: &Node,
    what: &'static str,
    read: impl Fn(&str) -> Option<u64>,
    limits: std::ops::RangeInclusive<u64>,
    help: &str,
) -> Option<u64> {
    let text = text(report, node, what)?;
    let found = read(&text.value).filter(|quantity| limits.contains(quantity));
    if found.is_none() {
        let message = format!("{} cannot be used as `{what}`", quote(&text.value));
        report.add_with_help(Rule::BadQuantity, text.span, message, help);
    }
    found
}

fn artifacts(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Vec<Artifact>> {
    let Value::List(items) = &node.value else {
        wrong_type(report, node, &format!("`{what}`"), "a list");
        return None;
    };
    let mut names = Vec::new();
    let mut found = Vec::new();
    for item in at_most(report, node, items, "`artifacts`", MOST_ARTIFACTS) {
        let keys = ["name", "path", "expires", "when"];
        let Some(fields) = Fields::read(report, item, "an artifact", &keys) else {
            continue;
        };
        let name = fields.required(report, "name");
        let name = name.and_then(|node| plain_name(report, node, "name"));
        let path = fields.required(report, "path");
        let path = path.and_then(|node| text(report, node, "path"));
        if let Some(path) = &path {
            check::path(report, path);
        }
        found.push(Artifact {
            name: name.clone().map(|name| name.value).unwrap_or_default(),
            path: path.map(|path| path.value).unwrap_or_default(),
            expires: fields
                .optional(report, "expires", |report, node, what| duration(report, node, what, LONGEST_EXPIRY_DAYS)),
            when: fields.optional(report, "when", publish).unwrap_or_default(),
        });
        names.extend(name);
    }
    check::unique(report, "artifact", &names);
    Some(found)
}

fn publish(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Publish> {
    let text = text(report, node, what)?;
    let choices = [("success", Publish::Success), ("failure", Publish::Failure), ("always", Publish::Always)];
    choice(report, &text, what, &choices)
}

fn concurrency(report: &mut Report<'_>, node: &Node, variables: &BTreeMap<String, String>) -> Option<Concurrency> {
    let keys = ["group", "cancel_in_progress"];
    let fields = Fields::read(report, node, "`concurrency`", &keys)?;
    let group = fields.required(report, "group");
    let group = group.and_then(|node| filled(report, node, "group"));
    if let Some(group) = &group {
        let place = "the concurrency group";
        let custom = Some(variables);
        Scope { place, custom, environment: None, secrets: false }.text(report, group);
    }
    Some(Concurrency {
        group: group.map(|group| group.value).unwrap_or_default(),
        cancel_in_progress: fields.optional(report, "cancel_in_progress", truth).unwrap_or_default(),
    })
}
