//! What the texts of a file refer to, and whether they may.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::diagnostics::{Report, Rule, quote};
use super::graph::{circle, cycles};
use super::lexer::Quoting;
use super::node::{Located, Span};
use super::shell;
use super::units;
use super::variables::{PLATFORM_VARIABLES, Piece, RESERVED_PREFIXES, Reference, Variable, pieces};

type Text = Located<String>;

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
    /// One was not found: the source is written differently, and looking again costs time.
    lost: bool,
}

impl Places {
    fn new(text: &Text) -> Self {
        Self { span: text.span, from: text.span.start, lost: false }
    }

    fn next(&mut self, report: &Report<'_>, text: &str, reference: &Reference) -> Span {
        if self.lost {
            return self.span;
        }
        let written = &text[reference.range.clone()];
        let rest = report.source.get(self.from..self.span.end).unwrap_or_default();
        match rest.find(written) {
            None => {
                self.lost = true;
                self.span
            }
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
        let names: Vec<_> = cycle.iter().map(|&index| entries[index].0.value.as_str()).collect();
        let message = match names.as_slice() {
            [one] => format!("the value of {} holds itself", quote(one)),
            names => format!("values hold each other: {}", circle(names)),
        };
        report.add(Rule::CircularEnvironment, span, message);
    }
}

/// An image that holds no secret by way of the environment and, where no variable has to be known
/// first, is an image's name.
pub(super) fn image(report: &mut Report<'_>, image: &Text, environment: &BTreeMap<String, String>) {
    if holds_secret(&image.value, environment) {
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

/// Whether a value of the environment that the text refers to holds a secret, or refers to one.
fn holds_secret(text: &str, environment: &BTreeMap<String, String>) -> bool {
    let mut seen = HashSet::new();
    let mut texts = vec![text];
    while let Some(text) = texts.pop() {
        for piece in pieces(text) {
            let Piece::Reference(reference) = piece else {
                continue;
            };
            match Variable::parse(&reference.name) {
                Ok(Variable::Secret(_)) if !seen.is_empty() => return true,
                Ok(Variable::Env(key)) if seen.insert(key.clone()) => {
                    texts.extend(environment.get(&key).map(String::as_str));
                }
                _ => {}
            }
        }
    }
    false
}
