//! What is wrong with a pipeline file, said so that its author can mend it.
//!
//! A diagnostic names file, line and column, shows the line itself and, where it can, what was
//! meant. Its text is safe to print on a terminal, whatever bytes the file holds, and its size
//! is bounded, however long the line is.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::Span;

/// More than these are counted, not listed.
const MOST_DIAGNOSTICS: usize = 200;
/// Characters of a source line that a diagnostic shows.
const SHOWN_LINE: usize = 160;
/// Characters of a piece of the file that a message repeats.
const SHOWN_WORD: usize = 80;

/// The kind of a problem; its kebab-case code is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The names are the codes, and each message says more.
pub enum Rule {
    NotUtf8,
    FileTooLarge,
    EmptyFile,
    YamlSyntax,
    SeveralDocuments,
    NestingTooDeep,
    TooManyValues,
    UnsupportedTag,
    UnknownAlias,
    NulCharacter,
    DuplicateKey,
    UnknownKey,
    MissingKey,
    WrongType,
    UnknownValue,
    OutOfRange,
    EmptySteps,
    BadName,
    DuplicateName,
    UnknownStep,
    CircularDependency,
    BadImage,
    SecretInImage,
    BadEnvironmentName,
    ReservedEnvironmentName,
    CircularEnvironment,
    UnknownVariable,
    UnclosedVariable,
    VariableNotAllowed,
    UnsafeVariable,
    BadDuration,
    BadQuantity,
    BadPath,
    BadGlob,
    BadCron,
    BadTimeZone,
    TooManyProblems,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One problem of a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The kind of problem.
    pub rule: Rule,
    /// One sentence, without a full stop.
    pub message: String,
    /// The file's name, as the caller gave it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line itself, or the part of a long line around the problem.
    pub source_line: String,
    /// Where in `source_line` the problem starts, from 0, in characters.
    pub source_offset: usize,
    /// How many characters of `source_line` it covers, at least 1.
    pub length: usize,
    /// What to write instead.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "error[{}]: {}", self.rule, self.message)?;
        writeln!(f, "{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.source_line)?;
        let indent = " ".repeat(self.source_offset);
        write!(f, "{margin} | {indent}{}", "^".repeat(self.length))?;
        match &self.help {
            Some(help) => write!(f, "\n{margin} = help: {help}"),
            None => Ok(()),
        }
    }
}

/// All diagnostics as text, one after another with a blank line between.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect::<Vec<_>>().join("\n")
}

/// A piece of the file, quoted for a message: printable and of bounded length.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_WORD).map(printable).collect();
    if text.chars().nth(SHOWN_WORD).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Control and direction characters could rewrite the terminal of whoever reads the message.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Collects the diagnostics of one file.
pub(super) struct Report<'a> {
    file: &'a str,
    pub(super) source: &'a str,
    line_starts: Vec<usize>,
    found: Vec<Diagnostic>,
    /// An alias brings the same text in twice; its problem is still one.
    told: HashSet<(Rule, usize, String)>,
    unlisted: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, source: &'a str) -> Self {
        let after_breaks = source.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            file,
            source,
            line_starts: std::iter::once(0).chain(after_breaks).collect(),
            found: Vec::new(),
            told: HashSet::new(),
            unlisted: 0,
        }
    }

    pub(super) fn add(&mut self, rule: Rule, span: Span, message: impl Into<String>) {
        self.push(rule, span, message.into(), None);
    }

    pub(super) fn add_with_help(
        &mut self,
        rule: Rule,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(rule, span, message.into(), Some(help.into()));
    }

    /// `help` says which of the candidates is near to what was written, if one is.
    pub(super) fn add_with_near<'c>(
        &mut self,
        rule: Rule,
        span: Span,
        message: impl Into<String>,
        written: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) {
        let help = (self.found.len() < MOST_DIAGNOSTICS)
            .then(|| nearest(written, candidates))
            .flatten()
            .map(|name| format!("did you mean {}?", quote(name)));
        self.push(rule, span, message.into(), help);
    }

    fn push(&mut self, rule: Rule, span: Span, message: String, help: Option<String>) {
        if self.found.len() >= MOST_DIAGNOSTICS {
            self.unlisted += 1;
            return;
        }
        if self.told.insert((rule, span.start, message.clone())) {
            self.found.push(self.diagnostic(rule, span, message, help));
        }
    }

    fn diagnostic(&self, rule: Rule, span: Span, message: String, help: Option<String>) -> Diagnostic {
        let start = floor_boundary(self.source, span.start);
        let end = floor_boundary(self.source, span.end.max(start));
        let index = self.line_starts.partition_point(|&at| at <= start) - 1;
        let line_start = self.line_starts[index];
        let line = &self.source[line_start..];
        let line = line.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);

        let before = self.source[line_start..start].chars().count();
        let total = line.chars().count();
        let covered = self.source[start..end].chars().take_while(|&c| c != '\n' && c != '\r').count();
        let (skipped, lead) = match total > SHOWN_LINE && before > SHOWN_LINE / 2 {
            true => (before - SHOWN_LINE / 2, "…"),
            false => (0, ""),
        };
        let shown = line.chars().skip(skipped).take(SHOWN_LINE).map(printable);
        let mut source_line: String = lead.chars().chain(shown).collect();
        if total > skipped + SHOWN_LINE {
            source_line.push('…');
        }
        let source_offset = before - skipped + lead.chars().count();
        let room = source_line.chars().count().saturating_sub(source_offset);
        Diagnostic {
            rule,
            message,
            file: self.file.chars().map(printable).collect(),
            line: index + 1,
            column: before + 1,
            source_line,
            source_offset,
            length: covered.min(room).max(1),
            help,
        }
    }

    /// From 1.
    pub(super) fn line_of(&self, span: Span) -> usize {
        self.line_starts.partition_point(|&at| at <= span.start)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The diagnostics, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|found| (found.line, found.column));
        if self.unlisted > 0 {
            let message = format!("{} more problems are not listed", self.unlisted);
            let end = Span::at(self.source.len());
            let last = self.diagnostic(Rule::TooManyProblems, end, message, None);
            self.found.push(last);
        }
        self.found
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The candidate that `written` was probably meant to be.
pub(super) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if written.len() > SHOWN_WORD {
        return None;
    }
    let written = written.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= SHOWN_WORD)
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&written, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            let longer = written.chars().count().max(candidate.chars().count());
            *distance <= longer.div_ceil(3) && *distance < longer
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
