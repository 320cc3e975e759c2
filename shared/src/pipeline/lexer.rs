//! Where in a shell command a variable stands: in which quotes, substitution, here-document or
//! comment.
//!
//! This is as much of the shell's grammar as that takes, and no more. It takes linear time and no
//! recursion; where a command is no correct one, what it finds is still safe to replace by an
//! expansion, if not in the right quotes.

use std::collections::VecDeque;
use std::ops::Range;

use super::variables::{Reference, reference_at};

/// What stands around a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    Bare,
    /// Inside double quotes, or a here-document that expands.
    Double,
    Single,
    /// Inside `$'…'`.
    Ansi,
    /// Inside `$((…))`.
    Arithmetic,
    /// Inside a here-document with a quoted delimiter.
    Literal,
    /// As `Literal`, where the document cannot be rewritten.
    Unreachable,
}

#[derive(Debug, Clone)]
pub(super) struct Use {
    pub(super) reference: Reference,
    pub(super) quoting: Quoting,
}

/// A here-document whose delimiter is quoted.
#[derive(Debug)]
pub(super) struct LiteralDocument {
    pub(super) delimiter: Range<usize>,
    pub(super) word: String,
    pub(super) body: Range<usize>,
}

/// What the lexer is inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Commands(Commands),
    Backticks(Commands),
    Double,
    /// `${…}` of the shell's own.
    Expansion {
        quoted: bool,
    },
    Arithmetic {
        parens: usize,
    },
    Document,
}

/// What tells a `)` that closes from one that belongs to a subshell or to `case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Commands {
    parens: usize,
    cases: usize,
    word_start: usize,
    /// The next word can be a keyword.
    first: bool,
}

struct Document {
    word: String,
    delimiter: Range<usize>,
    quoted: bool,
    strip_tabs: bool,
}

pub(super) struct Lexer<'c> {
    text: &'c str,
    at: usize,
    inside: Vec<Inside>,
    /// Where in `inside` the backticks are; they nest only escaped, which is left alone.
    backticks: Option<usize>,
    /// Here-documents whose bodies start after this line.
    pending: VecDeque<Document>,
    /// Here-documents that the lexer is in.
    ends: Vec<(String, bool)>,
    pub(super) uses: Vec<Use>,
    pub(super) documents: Vec<LiteralDocument>,
}

const KEYWORDS: [&str; 9] = ["then", "do", "else", "elif", "if", "while", "until", "!", "{"];

impl<'c> Lexer<'c> {
    pub(super) fn run(text: &'c str) -> Self {
        let mut lexer = Self {
            text,
            at: 0,
            inside: vec![Inside::Commands(Commands::at(0))],
            backticks: None,
            pending: VecDeque::new(),
            ends: Vec::new(),
            uses: Vec::new(),
            documents: Vec::new(),
        };
        while lexer.at < text.len() {
            lexer.step();
        }
        lexer
    }

    fn rest(&self) -> &'c str {
        &self.text[self.at..]
    }

    fn top(&self) -> Inside {
        let bottom = Inside::Commands(Commands::at(0));
        self.inside.last().copied().unwrap_or(bottom)
    }

    fn set_top(&mut self, inside: Inside) {
        if let Some(top) = self.inside.last_mut() {
            *top = inside;
        }
    }

    fn step(&mut self) {
        if self.take_reference() || self.take_common() {
            return;
        }
        match self.top() {
            Inside::Commands(commands) | Inside::Backticks(commands) => self.in_commands(commands),
            Inside::Double => {
                if self.rest().starts_with('"') {
                    self.inside.pop();
                }
                self.skip(1);
            }
            Inside::Expansion { quoted } => match self.rest().as_bytes()[0] {
                b'}' => {
                    self.inside.pop();
                    self.skip(1);
                }
                b'"' if !quoted => self.enter(Inside::Double, 1),
                b'\'' if !quoted => self.single_quotes(),
                _ => self.skip(1),
            },
            Inside::Arithmetic { parens } => match self.rest().as_bytes()[0] {
                b')' if parens == 0 => {
                    self.inside.pop();
                    self.skip(if self.rest().starts_with("))") { 2 } else { 1 });
                }
                b')' => self.replace(Inside::Arithmetic { parens: parens - 1 }),
                b'(' => self.replace(Inside::Arithmetic { parens: parens + 1 }),
                _ => self.skip(1),
            },
            Inside::Document => {
                let line_ends = self.rest().starts_with('\n');
                self.skip(1);
                if line_ends && self.end_document() {
                    self.open_documents();
                }
            }
        }
    }

    fn skip(&mut self, characters: usize) {
        self.at += self.rest().chars().take(characters).map(char::len_utf8).sum::<usize>();
    }

    fn enter(&mut self, inside: Inside, characters: usize) {
        self.skip(characters);
        let inside = match inside {
            Inside::Commands(_) => Inside::Commands(Commands::at(self.at)),
            Inside::Backticks(_) => Inside::Backticks(Commands::at(self.at)),
            other => other,
        };
        self.inside.push(inside);
    }

    fn replace(&mut self, inside: Inside) {
        self.set_top(inside);
        self.skip(1);
    }

    fn quoting(&self) -> Quoting {
        match self.top() {
            Inside::Commands(_) | Inside::Backticks(_) => Quoting::Bare,
            Inside::Double | Inside::Document => Quoting::Double,
            Inside::Expansion { quoted: true } => Quoting::Double,
            Inside::Expansion { quoted: false } => Quoting::Bare,
            Inside::Arithmetic { .. } => Quoting::Arithmetic,
        }
    }

    fn take_reference(&mut self) -> bool {
        if !self.rest().starts_with("${") {
            return false;
        }
        let Some(reference) = reference_at(self.text, self.at) else {
            return false;
        };
        self.at = reference.range.end;
        let quoting = self.quoting();
        self.uses.push(Use { reference, quoting });
        true
    }

    /// What means the same everywhere but in single quotes.
    fn take_common(&mut self) -> bool {
        let rest = self.rest();
        let commands = Commands::at(0);
        if rest.starts_with("\\\n") {
            self.continue_line();
        } else if rest.starts_with('\\') {
            self.skip(2);
        } else if rest.starts_with("$((") {
            self.enter(Inside::Arithmetic { parens: 0 }, 3);
        } else if rest.starts_with("$(") {
            self.enter(Inside::Commands(commands), 2);
        } else if rest.starts_with("${") {
            let quoted = self.quoting() == Quoting::Double;
            self.enter(Inside::Expansion { quoted }, 2);
        } else if rest.starts_with('`') {
            match self.backticks.take() {
                Some(depth) => {
                    self.inside.truncate(depth);
                    self.skip(1);
                }
                None => {
                    self.backticks = Some(self.inside.len());
                    self.enter(Inside::Backticks(commands), 1);
                }
            }
        } else {
            return false;
        }
        true
    }

    /// A line that goes on: what follows can still be a comment.
    fn continue_line(&mut self) {
        let before = self.at;
        self.skip(2);
        if let Inside::Commands(mut commands) | Inside::Backticks(mut commands) = self.top()
            && commands.word_start == before
        {
            commands.word_start = self.at;
            self.set_commands(commands);
        }
    }

    fn in_commands(&mut self, mut commands: Commands) {
        let rest = self.rest();
        let byte = rest.as_bytes()[0];
        let separator = self.at;
        match byte {
            b'\'' => return self.single_quotes(),
            b'"' => return self.enter(Inside::Double, 1),
            b'#' if commands.word_start == separator => {
                let backtick = self.backticks.is_some();
                let end = rest.find(|c| c == '\n' || (backtick && c == '`'));
                self.at += end.unwrap_or(rest.len());
                commands.word_start = self.at;
                return self.set_commands(commands);
            }
            b'<' if rest.starts_with("<<<") => self.skip(3),
            b'<' if rest.starts_with("<<") => self.document_operator(),
            b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' => self.skip(1),
            _ => return self.skip(1),
        }
        commands.end_word(&self.text[commands.word_start..separator], byte);
        match byte {
            b'(' => commands.parens += 1,
            b')' if commands.parens > 0 => commands.parens -= 1,
            b')' if commands.cases > 0 => {}
            b')' if self.inside.len() > 1 && matches!(self.top(), Inside::Commands(_)) => {
                self.inside.pop();
                return;
            }
            _ => {}
        }
        commands.word_start = self.at;
        self.set_commands(commands);
        if byte == b'\n' {
            self.open_documents();
        }
    }

    fn set_commands(&mut self, commands: Commands) {
        match self.top() {
            Inside::Backticks(_) => self.set_top(Inside::Backticks(commands)),
            _ => self.set_top(Inside::Commands(commands)),
        }
    }

    /// Inside single quotes only the closing quote means anything; inside backticks a backtick
    /// ends even them.
    fn single_quotes(&mut self) {
        let ansi = self.text[..self.at].ends_with('$');
        let backtick = self.backticks.is_some();
        let quoting = if ansi { Quoting::Ansi } else { Quoting::Single };
        self.skip(1);
        while let Some(byte) = self.rest().bytes().next() {
            match byte {
                b'\'' => return self.skip(1),
                b'`' if backtick => return,
                b'\\' if ansi => self.skip(2),
                b'$' => match reference_at(self.text, self.at) {
                    Some(reference) => {
                        self.at = reference.range.end;
                        self.uses.push(Use { reference, quoting });
                    }
                    None => self.skip(1),
                },
                _ => self.skip(1),
            }
        }
    }

    /// `<<WORD` or `<<-WORD`, where the word may be quoted.
    fn document_operator(&mut self) {
        self.at += 2;
        let strip_tabs = self.rest().starts_with('-');
        self.at += usize::from(strip_tabs);
        let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        self.at += blanks;
        let start = self.at;
        let mut word = String::new();
        let mut quoted = false;
        let mut quote = None;
        while let Some(c) = self.rest().chars().next() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => {
                    quoted = true;
                    quote = Some(c);
                }
                (None, '\\') => {
                    quoted = true;
                    self.skip(1);
                    word.extend(self.rest().chars().next());
                }
                (None, ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')') => break,
                (Some(_), '\n') => break,
                (_, c) => word.push(c),
            }
            self.skip(1);
        }
        if start < self.at {
            let delimiter = start..self.at;
            self.pending.push_back(Document { word, delimiter, quoted, strip_tabs });
        }
    }

    /// At the start of a line: the bodies of the documents that the line before announced.
    fn open_documents(&mut self) {
        while let Some(document) = self.pending.pop_front() {
            if document.quoted {
                self.literal_document(document);
                continue;
            }
            self.ends.push((document.word, document.strip_tabs));
            self.inside.push(Inside::Document);
            if !self.end_document() {
                return;
            }
        }
        if let Inside::Commands(mut commands) | Inside::Backticks(mut commands) = self.top() {
            commands.word_start = self.at;
            commands.first = true;
            self.set_commands(commands);
        }
    }

    /// At the start of a line of a document that expands: whether this line ends it.
    fn end_document(&mut self) -> bool {
        let line = self.ends.last().and_then(|(word, strip_tabs)| ending_line(self.rest(), word, *strip_tabs));
        let Some(line) = line else {
            return false;
        };
        self.at += line;
        self.ends.pop();
        self.inside.pop();
        true
    }

    fn literal_document(&mut self, document: Document) {
        let start = self.at;
        loop {
            if ending_line(self.rest(), &document.word, document.strip_tabs).is_some() {
                break;
            }
            match self.rest().find('\n') {
                Some(end) => self.at += end + 1,
                None => {
                    self.at = self.text.len();
                    break;
                }
            }
        }
        let body = start..self.at;
        let plain = document.word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let rewritable = plain && !document.word.is_empty() && self.backticks.is_none();
        let quoting = if rewritable { Quoting::Literal } else { Quoting::Unreachable };
        let mut from = body.start;
        while let Some(at) = self.text[from..body.end].find("${").map(|at| from + at) {
            from = match reference_at(self.text, at) {
                Some(reference) => {
                    let end = reference.range.end;
                    self.uses.push(Use { reference, quoting });
                    end
                }
                None => at + 2,
            };
        }
        if rewritable {
            self.documents.push(LiteralDocument { delimiter: document.delimiter, word: document.word.clone(), body });
        }
        let last = ending_line(self.rest(), &document.word, document.strip_tabs);
        self.at += last.unwrap_or_default();
    }
}

/// The length of the first line, with its break, when it is the delimiter.
fn ending_line(rest: &str, word: &str, strip_tabs: bool) -> Option<usize> {
    let line = rest.split('\n').next().unwrap_or_default();
    let shown = if strip_tabs { line.trim_start_matches('\t') } else { line };
    (!rest.is_empty() && shown == word).then(|| (line.len() + 1).min(rest.len()))
}

impl Commands {
    fn at(start: usize) -> Self {
        Self { parens: 0, cases: 0, word_start: start, first: true }
    }

    /// A word ended before this separator.
    fn end_word(&mut self, word: &str, separator: u8) {
        if !word.is_empty() {
            match word {
                "case" if self.first => self.cases += 1,
                "esac" if self.first => self.cases = self.cases.saturating_sub(1),
                _ => {}
            }
            self.first = self.first && KEYWORDS.contains(&word);
        }
        if matches!(separator, b'\n' | b';' | b'&' | b'|' | b'(' | b')') {
            self.first = true;
        }
    }
}
