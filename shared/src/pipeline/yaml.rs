//! YAML into the tree of values.
//!
//! Anchors, aliases and merge keys (`<<`) work; depth, size and the number of values that
//! aliases unfold into are bounded, so that no file costs more than a few megabytes. Tags,
//! several documents and duplicate keys are refused.

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};

use super::diagnostics::{Report, Rule, quote};
use super::node::{Entry, Located, Node, Span, Value};

const MOST_DEPTH: usize = 32;
/// Of values and of bytes of text, aliases unfolded.
const MOST_WEIGHT: usize = 4 << 20;

/// Reads the one document of `report.source`. `None` when nothing of it can be used; what is
/// wrong is then in the report.
pub(super) fn read(report: &mut Report<'_>) -> Option<Node> {
    let source = report.source;
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        disallow_directives: true,
        flow_nesting_limit: 2 * MOST_DEPTH,
        block_nesting_limit: 2 * MOST_DEPTH,
    };
    let mut tree = Tree::default();
    for event in Parser::new_from_str_with_options(source, options) {
        let (event, place) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(source.len());
                syntax_error(report, at, &error);
                return None;
            }
        };
        let range = place.byte_range().unwrap_or(source.len()..source.len());
        let span = Span { start: range.start, end: range.end };
        if event.tag().is_some() {
            let tag = place.tag_span().and_then(|place| place.byte_range());
            let span = tag.map_or(span, |tag| Span { start: tag.start, end: tag.end });
            report.add(Rule::UnsupportedTag, span, "tags are not supported");
        }
        tree.event(event, span, report)?;
    }
    match tree.root {
        Some(Node { value: Value::Null, .. }) | None => {
            let message = "the file holds no pipeline";
            let help = "write `pipeline:` with at least one step";
            report.add_with_help(Rule::EmptyFile, Span::at(0), message, help);
            None
        }
        root => root,
    }
}

fn syntax_error(report: &mut Report<'_>, at: usize, error: &ScanError) {
    let span = Span::at(at);
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return too_deep(report, span);
    }
    // The braces of a variable end a text that stands between `[ ]` or `{ }` without quotes.
    let before = report.source.get(..at).unwrap_or_default();
    if before.ends_with('$') {
        let help = "put quotes around a text that holds `${…}` between `[ ]` or `{ }`";
        return report.add_with_help(Rule::YamlSyntax, span, error.info(), help);
    }
    report.add(Rule::YamlSyntax, span, error.info());
}

fn too_deep(report: &mut Report<'_>, span: Span) {
    let message = format!("values are nested more than {MOST_DEPTH} deep");
    report.add(Rule::NestingTooDeep, span, message);
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    weight: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not been seen.
struct Open {
    start: usize,
    anchor: usize,
    weight_before: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<Node> },
}

impl Tree {
    /// `None` when reading cannot go on.
    fn event(&mut self, event: Event<'_>, span: Span, report: &mut Report<'_>) -> Option<()> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let message = "the file holds more than one document";
                let help = "keep one pipeline in a file and remove the `---`";
                report.add_with_help(Rule::SeveralDocuments, span, message, help);
                None
            }
            Event::Scalar(text, style, anchor, _) => {
                let before = self.weight;
                self.grow(1 + text.len(), span, report)?;
                if text.contains('\0') {
                    let message = "a text cannot hold the character NUL";
                    report.add(Rule::NulCharacter, span, message);
                }
                let plain = style == ScalarStyle::Plain;
                let value = match &*text {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text => Value::Scalar { text: text.to_owned(), plain },
                };
                self.complete(Node { span, value }, anchor, before, report)
            }
            Event::SequenceStart(_, anchor, _) => self.open(OpenKind::List(Vec::new()), anchor, span, report),
            Event::MappingStart(_, anchor, _) => {
                let kind = OpenKind::Map { entries: Vec::new(), key: None };
                self.open(kind, anchor, span, report)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop()?;
                let value = match open.kind {
                    OpenKind::List(items) => Value::List(items),
                    OpenKind::Map { entries, .. } => Value::Map(close_map(entries, report)),
                };
                let span = Span { start: open.start, end: span.end };
                self.complete(Node { span, value }, open.anchor, open.weight_before, report)
            }
            Event::Alias(id) => {
                let before = self.weight;
                let node = match self.anchors.get(&id) {
                    Some((node, weight)) => {
                        let (node, weight) = (node.clone(), *weight);
                        self.grow(weight, span, report)?;
                        node
                    }
                    None => {
                        let message = "an alias cannot stand inside the value it names";
                        report.add(Rule::UnknownAlias, span, message);
                        Node { span, value: Value::Invalid }
                    }
                };
                self.complete(node, 0, before, report)
            }
            Event::UnresolvedAlias(name) => {
                let message = format!("there is no anchor {} before this alias", quote(&name));
                report.add(Rule::UnknownAlias, span, message);
                let before = self.weight;
                self.complete(Node { span, value: Value::Invalid }, 0, before, report)
            }
            _ => Some(()),
        }
    }

    fn open(&mut self, kind: OpenKind, anchor: usize, span: Span, report: &mut Report<'_>) -> Option<()> {
        if self.open.len() >= MOST_DEPTH {
            too_deep(report, span);
            return None;
        }
        let weight_before = self.weight;
        self.grow(1, span, report)?;
        self.open.push(Open { start: span.start, anchor, weight_before, kind });
        Some(())
    }

    fn grow(&mut self, weight: usize, span: Span, report: &mut Report<'_>) -> Option<()> {
        self.weight += weight;
        if self.weight > MOST_WEIGHT {
            let message = "the file unfolds into too many values";
            report.add(Rule::TooManyValues, span, message);
            return None;
        }
        Some(())
    }

    fn complete(&mut self, node: Node, anchor: usize, weight_before: usize, report: &mut Report<'_>) -> Option<()> {
        if anchor != 0 {
            // Nested anchors are each kept whole: they count like an alias.
            let weight = self.weight - weight_before;
            self.grow(weight, node.span, report)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.extend(entry(key, node, report)),
            },
        }
        Some(())
    }
}

fn entry(key: Node, value: Node, report: &mut Report<'_>) -> Option<Entry> {
    match key.value {
        Value::Scalar { text, .. } => Some(Entry { key: Located { value: text, span: key.span }, value }),
        Value::Invalid => None,
        _ => {
            let message = format!("a key must be a word, this one is {}", key.kind());
            report.add(Rule::WrongType, key.span, message);
            None
        }
    }
}

/// Refuses duplicate keys and unfolds merge keys; keys of the mapping itself win.
fn close_map(entries: Vec<Entry>, report: &mut Report<'_>) -> Vec<Entry> {
    let (merges, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key.value == "<<");
    let mut seen = HashSet::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(own.len());
    for entry in own {
        if seen.insert(entry.key.value.clone()) {
            kept.push(entry);
        } else {
            let message = format!("the key {} stands here twice", quote(&entry.key.value));
            report.add(Rule::DuplicateKey, entry.key.span, message);
        }
    }
    for merge in merges {
        let sources = match merge.value.value {
            Value::List(nodes) => nodes,
            _ => vec![merge.value],
        };
        for node in sources {
            match node.value {
                Value::Map(entries) => {
                    kept.extend(entries.into_iter().filter(|entry| seen.insert(entry.key.value.clone())))
                }
                Value::Invalid => {}
                _ => {
                    let message = format!("only mappings can be merged, this is {}", node.kind());
                    report.add(Rule::WrongType, node.span, message);
                }
            }
        }
    }
    kept
}
