//! Checks of meaning, the same for every format: names, patterns, times, variables and the graph
//! of the steps.

use std::collections::{BTreeMap, HashMap};

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZoneDatabase;

use super::diagnostics::{Report, Rule, quote};
use super::filters::glob;
use super::lexer::Quoting;
use super::node::{Located, Span};
use super::shell;
use super::units;
use super::variables::{PLATFORM_VARIABLES, Piece, RESERVED_PREFIXES, Reference, Variable, pieces};

type Text = Located<String>;

/// Every pattern of a list of branches or tags.
pub(super) fn patterns(report: &mut Report<'_>, patterns: &[Text]) {
    for pattern in patterns {
        self::pattern(report, pattern);
    }
}

fn pattern(report: &mut Report<'_>, pattern: &Text) {
    if let Err(reason) = glob(&pattern.value) {
        let message = format!("{} is no pattern: {reason}", quote(&pattern.value));
        report.add(Rule::BadGlob, pattern.span, message);
    }
}

/// A path or glob that stays below the working directory.
pub(super) fn path(report: &mut Report<'_>, path: &Text) {
    let reason = match path.value.as_str() {
        "" => "it is empty",
        text if text.starts_with('/') => "it is absolute",
        text if text.split('/').any(|part| part == "..") => "it leaves the working directory",
        _ => return pattern(report, path),
    };
    let message = format!("{} cannot be used as a path: {reason}", quote(&path.value));
    let help = "write it relative to the working directory `/workspace`";
    report.add_with_help(Rule::BadPath, path.span, message, help);
}

/// Five fields, and at least one moment that they describe.
pub(super) fn cron(report: &mut Report<'_>, cron: &Text) {
    let fields = cron.value.split_whitespace().count();
    let named = cron.value.starts_with('@');
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let start = jiff::civil::date(2024, 1, 1).to_zoned(jiff::tz::TimeZone::UTC);
    let reason = match (parser.parse(&cron.value), start) {
        (Err(_), _) if fields != 5 && !named => "it does not have five fields".to_owned(),
        (Err(CronError::InvalidPattern(reason)), _)
        | (Err(CronError::IllegalCharacters(reason)), _)
        | (Err(CronError::ComponentError(reason)), _) => reason,
        (Err(error), _) => error.to_string(),
        (Ok(times), Ok(start)) if times.find_next_occurrence(&start, true).is_err() => {
            "there is no such day".to_owned()
        }
        _ => return,
    };
    let reason = reason.trim_end_matches('.');
    let message = format!("{} is no schedule: {reason}", quote(&cron.value));
    let help = "write five fields: minute, hour, day of the month, month, day of the week";
    report.add_with_help(Rule::BadCron, cron.span, message, help);
}

/// A name of the time zone database, the copy that the program brings.
pub(super) fn time_zone(report: &mut Report<'_>, zone: &Text) {
    let zones = TimeZoneDatabase::bundled();
    if zone.value.is_ascii() && zones.get(&zone.value).is_ok() {
        return;
    }
    let message = format!("there is no time zone {}", quote(&zone.value));
    let names: Vec<_> = zones.available().map(|name| name.to_string()).collect();
    let near = names.iter().map(String::as_str);
    report.add_with_near(Rule::BadTimeZone, zone.span, message, &zone.value, near);
}

/// A name that is to be unique; `what` it names.
pub(super) fn unique<'n>(report: &mut Report<'_>, what: &str, names: impl IntoIterator<Item = &'n Text>) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in names {
        match seen.get(name.value.as_str()) {
            None => {
                seen.insert(&name.value, name.span);
            }
            Some(&first) => {
                let line = report.line_of(first);
                let name_shown = quote(&name.value);
                let message = format!("another {what} is named {name_shown} already, in line {line}");
                report.add(Rule::DuplicateName, name.span, message);
            }
        }
    }
}

/// A step's place in the graph.
pub(super) struct Edges {
    pub(super) name: Option<Text>,
    pub(super) depends_on: Vec<Text>,
}

/// Each `depends_on` names another step, and no step waits for itself by a detour.
pub(super) fn graph(report: &mut Report<'_>, steps: &[Edges]) {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (index, step) in steps.iter().enumerate() {
        if let Some(name) = &step.name {
            places.entry(&name.value).or_insert(index);
        }
    }
    let mut parents: Vec<Vec<(usize, Span)>> = Vec::with_capacity(steps.len());
    for step in steps {
        let mut known = Vec::new();
        for name in &step.depends_on {
            match places.get(name.value.as_str()) {
                Some(&parent) => known.push((parent, name.span)),
                None => {
                    let message = format!("there is no step {}", quote(&name.value));
                    let others = places.keys().copied();
                    report.add_with_near(Rule::UnknownStep, name.span, message, &name.value, others);
                }
            }
        }
        parents.push(known);
    }
    for (cycle, span) in cycles(&parents) {
        let name = |&index: &usize| steps[index].name.as_ref().map_or("", |name| &name.value);
        let names: Vec<_> = cycle.iter().map(|index| quote(name(index))).collect();
        let message = match names.as_slice() {
            [one] => format!("the step {one} waits for itself"),
            names => format!("steps wait for each other: {} → {}", names.join(" → "), names[0]),
        };
        report.add(Rule::CircularDependency, span, message);
    }
}

/// One cycle for each edge that closes one, found depth first; without recursion, since a
/// chain can be as long as the file.
fn cycles(parents: &[Vec<(usize, Span)>]) -> Vec<(Vec<usize>, Span)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::No; parents.len()];
    let mut found = Vec::new();
    for root in 0..parents.len() {
        if seen[root] != Seen::No {
            continue;
        }
        seen[root] = Seen::OnPath;
        let mut path = vec![(root, 0)];
        while let Some((step, next)) = path.last_mut() {
            let Some(&(parent, span)) = parents[*step].get(*next) else {
                seen[*step] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match seen[parent] {
                Seen::Done => {}
                Seen::No => {
                    seen[parent] = Seen::OnPath;
                    path.push((parent, 0));
                }
                Seen::OnPath => {
                    let cycle = path.iter().map(|(step, _)| *step);
                    let cycle = cycle.skip_while(|&step| step != parent).collect();
                    found.push((cycle, span));
                }
            }
        }
    }
    found
}

/// What a text can refer to.
pub(super) struct Scope<'s> {
    /// Where the text stands, for the messages: "the image", …
    pub(super) place: &'static str,
    /// The file's own variables; `None` where they cannot be used.
    pub(super) custom: Option<&'s BTreeMap<String, String>>,
    /// The step's environment; `None` outside a step.
    pub(super) environment: Option<&'s BTreeMap<String, String>>,
    pub(super) secrets: bool,
}

impl Scope<'_> {
    /// References in a text that takes them as text.
    pub(super) fn text(&self, report: &mut Report<'_>, text: &Text) {
        let mut places = Places::new(text);
        for piece in pieces(&text.value) {
            if let Piece::Reference(reference) = piece {
                let span = places.next(report, &text.value, &reference);
                self.reference(report, span, &reference);
            }
        }
    }

    /// References in a shell command.
    pub(super) fn command(&self, report: &mut Report<'_>, command: &Text) {
        let mut places = Places::new(command);
        for found in shell::uses(&command.value) {
            let span = places.next(report, &command.value, &found.reference);
            let Some(variable) = self.reference(report, span, &found.reference) else {
                continue;
            };
            let name = quote(&found.reference.name);
            match found.quoting {
                Quoting::Unreachable => {
                    let message = format!("{name} cannot be used in this here-document");
                    let help = "give the document a delimiter without quotes";
                    report.add_with_help(Rule::VariableNotAllowed, span, message, help);
                }
                Quoting::Arithmetic if variable.is_strangers() => {
                    let message = format!("{name} cannot be used in arithmetic, where a shell may run what it holds");
                    report.add(Rule::UnsafeVariable, span, message);
                }
                _ => {}
            }
        }
    }

    /// The variable, unless it was reported.
    fn reference(&self, report: &mut Report<'_>, span: Span, reference: &Reference) -> Option<Variable> {
        let name = &reference.name;
        if !reference.closed {
            let message = format!("the variable {} has no closing brace in its line", quote(name));
            report.add(Rule::UnclosedVariable, span, message);
            return None;
        }
        let variable = match Variable::parse(name) {
            Ok(variable) => variable,
            Err(unknown) => {
                let message = format!("there is no variable {}", quote(name));
                match unknown.near {
                    Some(near) => {
                        let help = format!("did you mean `{near}`?");
                        report.add_with_help(Rule::UnknownVariable, span, message, help);
                    }
                    None => report.add(Rule::UnknownVariable, span, message),
                }
                return None;
            }
        };
        let (known, written, prefix) = match &variable {
            Variable::Secret(_) if !self.secrets => {
                let (rule, help) = match self.place {
                    "the image" => (Rule::SecretInImage, "an image's name is shown to everyone"),
                    _ => (Rule::VariableNotAllowed, "use the secret in the environment of a step"),
                };
                let message = format!("{} cannot hold a secret", self.place);
                report.add_with_help(rule, span, message, help);
                return None;
            }
            Variable::Env(_) | Variable::StepName | Variable::StepIndex if self.environment.is_none() => {
                return self.not_here(report, span, name);
            }
            Variable::Custom(_) if self.custom.is_none() => {
                return self.not_here(report, span, name);
            }
            Variable::Env(key) if PLATFORM_VARIABLES.contains(&key.as_str()) => {
                return Some(variable);
            }
            Variable::Env(key) => (self.environment, key, "env"),
            Variable::Custom(key) => (self.custom, key, "custom"),
            _ => return Some(variable),
        };
        let known = known?;
        if known.contains_key(written) {
            return Some(variable);
        }
        let message = match prefix {
            "env" => format!("the step's environment has no {}", quote(written)),
            _ => format!("the file's `variables` have no {}", quote(written)),
        };
        let names = known.keys().map(String::as_str);
        report.add_with_near(Rule::UnknownVariable, span, message, written, names);
        None
    }

    fn not_here(&self, report: &mut Report<'_>, span: Span, name: &str) -> Option<Variable> {
        let message = format!("{} cannot be used in {}", quote(name), self.place);
        report.add(Rule::VariableNotAllowed, span, message);
        None
    }
}

/// Finds references in the source, where quotes and indentation may change the text around them.
struct Places {
    span: Span,
    from: usize,
}

impl Places {
    fn new(text: &Text) -> Self {
        Self { span: text.span, from: text.span.start }
    }

    fn next(&mut self, report: &Report<'_>, text: &str, reference: &Reference) -> Span {
        let written = &text[reference.range.clone()];
        let rest = report.source.get(self.from..self.span.end).unwrap_or_default();
        match rest.find(written) {
            None => self.span,
            Some(offset) => {
                let start = self.from + offset;
                self.from = start + written.len();
                Span { start, end: self.from }
            }
        }
    }
}

/// Names and values of a step's environment.
pub(super) fn environment(report: &mut Report<'_>, entries: &[(Text, Text)], scope: &Scope<'_>) {
    let mut sources: Vec<Vec<(usize, Span)>> = Vec::new();
    let places: HashMap<&str, usize> =
        entries.iter().enumerate().map(|(index, (name, _))| (name.value.as_str(), index)).collect();
    for (name, value) in entries {
        if !units::is_environment_name(&name.value) {
            let message = format!("{} is no name for a variable", quote(&name.value));
            let help = "use letters, digits and `_`, and no digit in front";
            report.add_with_help(Rule::BadEnvironmentName, name.span, message, help);
        }
        if let Some(prefix) = RESERVED_PREFIXES.iter().find(|prefix| name.value.starts_with(**prefix)) {
            let message = format!("names that begin with `{prefix}` are set by BuildIt itself");
            report.add(Rule::ReservedEnvironmentName, name.span, message);
        }
        scope.text(report, value);
        let own = pieces(&value.value).into_iter().filter_map(|piece| match piece {
            Piece::Reference(reference) => match Variable::parse(&reference.name) {
                Ok(Variable::Env(key)) if !PLATFORM_VARIABLES.contains(&key.as_str()) => {
                    places.get(key.as_str()).map(|&index| (index, value.span))
                }
                _ => None,
            },
            Piece::Text(_) => None,
        });
        sources.push(own.collect());
    }
    for (cycle, span) in cycles(&sources) {
        let names: Vec<_> = cycle.iter().map(|&index| quote(&entries[index].0.value)).collect();
        let message = match names.as_slice() {
            [one] => format!("the value of {one} holds itself"),
            names => format!("values hold each other: {} → {}", names.join(" → "), names[0]),
        };
        report.add(Rule::CircularEnvironment, span, message);
    }
}

/// An image that holds no secret by way of the environment and, where no variable has to be known
/// first, is an image's name.
pub(super) fn image(report: &mut Report<'_>, image: &Text, environment: &BTreeMap<String, String>) {
    let references: Vec<_> = pieces(&image.value)
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Reference(reference) => Variable::parse(&reference.name).ok(),
            Piece::Text(_) => None,
        })
        .collect();
    let through = references.iter().any(|variable| holds_secret(variable, environment));
    if through {
        let message = "the image cannot hold a secret, not by way of the environment either";
        let help = "an image's name is shown to everyone";
        report.add_with_help(Rule::SecretInImage, image.span, message, help);
    }
    if image.value.contains("${") {
        return;
    }
    if let Some(reason) = units::image_problem(&image.value) {
        let message = format!("{} is no image: {reason}", quote(&image.value));
        report.add(Rule::BadImage, image.span, message);
    }
}

fn holds_secret(variable: &Variable, environment: &BTreeMap<String, String>) -> bool {
    let Variable::Env(first) = variable else {
        return false;
    };
    let mut seen = vec![first.clone()];
    let mut next = 0;
    while let Some(value) = seen.get(next).map(|key| environment.get(key)) {
        next += 1;
        for piece in pieces(value.map_or("", String::as_str)) {
            let Piece::Reference(reference) = piece else {
                continue;
            };
            match Variable::parse(&reference.name) {
                Ok(Variable::Secret(_)) => return true,
                Ok(Variable::Env(key)) if !seen.contains(&key) => seen.push(key),
                _ => {}
            }
        }
    }
    false
}
