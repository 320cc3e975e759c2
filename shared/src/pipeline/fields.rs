//! Reading located values: mappings with known keys, texts, numbers, lists. What is wrong is
//! reported where it stands, and reading goes on.

use std::time::Duration;

use super::diagnostics::{Report, Rule, quote};
use super::node::{Entry, Located, Node, Span, Value};
use super::units;

/// A mapping whose keys are all known ones; the others are reported.
pub(super) struct Fields<'n> {
    entries: &'n [Entry],
    what: &'static str,
    span: Span,
}

impl<'n> Fields<'n> {
    /// `what` the mapping describes, for the messages: "a step", …
    pub(super) fn read(
        report: &mut Report<'_>,
        node: &'n Node,
        what: &'static str,
        known: &[&'static str],
    ) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            wrong_type(report, node, what, "a mapping");
            return None;
        };
        for Entry { key, .. } in entries {
            if !known.contains(&key.value.as_str()) {
                let message = format!("{} is not a key of {what}", quote(&key.value));
                let known = known.iter().copied();
                report.add_with_near(Rule::UnknownKey, key.span, message, &key.value, known);
            }
        }
        Some(Self { entries, what, span: node.span })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.key.value == key).map(|entry| &entry.value)
    }

    pub(super) fn required(&self, report: &mut Report<'_>, key: &str) -> Option<&'n Node> {
        let found = self.get(key);
        if found.is_none() {
            let message = format!("{} needs the key `{key}`", self.what);
            report.add(Rule::MissingKey, self.span, message);
        }
        found
    }

    /// The value of an optional key, read by `read`.
    pub(super) fn optional<T>(
        &self,
        report: &mut Report<'_>,
        key: &'static str,
        read: impl FnOnce(&mut Report<'_>, &'n Node, &'static str) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        read(report, node, key)
    }
}

/// `what` should be `expected` and is not; says nothing about what was reported already.
pub(super) fn wrong_type(report: &mut Report<'_>, node: &Node, what: &str, expected: &str) {
    if !matches!(node.value, Value::Invalid) {
        let message = format!("{what} must be {expected}, this is {}", node.kind());
        report.add(Rule::WrongType, node.span, message);
    }
}

/// Any single value, as it is written: `8080` and `true` are texts too.
pub(super) fn text(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Located<String>> {
    described_text(report, node, &format!("`{what}`"))
}

/// As [`text`], with a description of the value for the messages.
pub(super) fn described_text(report: &mut Report<'_>, node: &Node, what: &str) -> Option<Located<String>> {
    match &node.value {
        Value::Scalar { text, .. } => Some(Located { value: text.clone(), span: node.span }),
        Value::Null => {
            let message = format!("{what} has no value");
            let help = "write `\"\"` for an empty one";
            report.add_with_help(Rule::WrongType, node.span, message, help);
            None
        }
        Value::Map(_) => {
            let message = format!("{what} must be a text, this is a mapping");
            let help = "put quotes around a text that holds `: ` or begins with `{`";
            report.add_with_help(Rule::WrongType, node.span, message, help);
            None
        }
        _ => {
            wrong_type(report, node, what, "a text");
            None
        }
    }
}

/// As [`text`], where an empty one makes no sense.
pub(super) fn filled(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Located<String>> {
    let text = text(report, node, what)?;
    if text.value.trim().is_empty() {
        report.add(Rule::OutOfRange, text.span, format!("`{what}` is empty"));
        return None;
    }
    Some(text)
}

/// The items of a list up to a bound; reports that there are more.
pub(super) fn at_most<'n>(
    report: &mut Report<'_>,
    node: &Node,
    items: &'n [Node],
    what: &str,
    most: usize,
) -> &'n [Node] {
    if items.len() > most {
        let message = format!("{what} has at most {most} entries, this one {}", items.len());
        report.add(Rule::OutOfRange, node.span, message);
    }
    &items[..items.len().min(most)]
}

/// A list of texts; what is wrong with one leaves the others.
pub(super) fn texts(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Vec<Located<String>>> {
    match &node.value {
        Value::List(items) => Some(
            items.iter().filter_map(|item| described_text(report, item, &format!("an entry of `{what}`"))).collect(),
        ),
        Value::Scalar { .. } => {
            let message = format!("`{what}` must be a list, this is a single value");
            let help = format!("write `{what}: [ … ]`, or one value a line with `- ` before it");
            report.add_with_help(Rule::WrongType, node.span, message, help);
            None
        }
        _ => {
            wrong_type(report, node, &format!("`{what}`"), "a list");
            None
        }
    }
}

/// A list of texts, or a single one.
pub(super) fn one_or_more(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Vec<Located<String>>> {
    match node.value {
        Value::Scalar { .. } => text(report, node, what).map(|text| vec![text]),
        _ => texts(report, node, what),
    }
}

pub(super) fn truth(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<bool> {
    match &node.value {
        Value::Scalar { text, plain: true } if text == "true" => Some(true),
        Value::Scalar { text, plain: true } if text == "false" => Some(false),
        Value::Scalar { text, .. } => {
            let message = format!("`{what}` must be `true` or `false`");
            match text.to_lowercase().as_str() {
                "true" | "yes" | "on" => {
                    report.add_with_help(Rule::WrongType, node.span, message, "write `true`");
                }
                "false" | "no" | "off" => {
                    report.add_with_help(Rule::WrongType, node.span, message, "write `false`");
                }
                _ => report.add(Rule::WrongType, node.span, message),
            }
            None
        }
        _ => {
            wrong_type(report, node, &format!("`{what}`"), "`true` or `false`");
            None
        }
    }
}

pub(super) fn whole_number(report: &mut Report<'_>, node: &Node, what: &'static str, most: u32) -> Option<u32> {
    let digits = |text: &str| {
        let sign = text.strip_prefix(['-', '+']).unwrap_or(text);
        !sign.is_empty() && sign.bytes().all(|byte| byte.is_ascii_digit())
    };
    match &node.value {
        Value::Scalar { text, plain: true } if digits(text) => {
            let number = text.parse().ok().filter(|number| *number <= most);
            if number.is_none() {
                let message = format!("`{what}` must be between 0 and {most}");
                report.add(Rule::OutOfRange, node.span, message);
            }
            number
        }
        _ => {
            wrong_type(report, node, &format!("`{what}`"), "a whole number");
            None
        }
    }
}

/// A duration between one second and `most` days.
pub(super) fn duration(report: &mut Report<'_>, node: &Node, what: &'static str, most_days: u64) -> Option<Duration> {
    let text = text(report, node, what)?;
    let Some(duration) = units::duration(&text.value) else {
        let message = format!("{} is no duration", quote(&text.value));
        let help = "write numbers with `d`, `h`, `m` and `s`, as in `1h30m`";
        report.add_with_help(Rule::BadDuration, text.span, message, help);
        return None;
    };
    if duration.is_zero() || duration.as_secs() > most_days * 24 * 60 * 60 {
        let message = format!("`{what}` must be between `1s` and `{most_days}d`");
        report.add(Rule::OutOfRange, text.span, message);
        return None;
    }
    Some(duration)
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    report: &mut Report<'_>,
    text: &Located<String>,
    what: &'static str,
    choices: &[(&'static str, T)],
) -> Option<T> {
    let found = choices.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("{} is not a value of `{what}`: {}", quote(&text.value), words.join(", "));
        let words = choices.iter().map(|(word, _)| *word);
        report.add_with_near(Rule::UnknownValue, text.span, message, &text.value, words);
    }
    found.map(|(_, value)| *value)
}
