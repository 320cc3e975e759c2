//! Splits a command into words, as far as that can be done without a shell.
//!
//! Quotes, backslashes, comments, `$VAR` and `${VAR}` mean what they mean to a shell; a value that
//! is not quoted is split at white space. What takes a shell is refused, before any command
//! has run.

/// Words that begin something that only a shell can do.
const CONTROL: [&str; 18] = [
    "!", "[[", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "select", "then",
    "until", "while",
];

/// What would be of no use as a program: it changes the shell itself.
const BUILTINS: [&str; 33] = [
    ".", ":", "alias", "bg", "break", "cd", "command", "continue", "declare", "eval", "exec", "exit", "export", "fg",
    "getopts", "hash", "jobs", "local", "popd", "pushd", "read", "readonly", "return", "set", "shift", "shopt",
    "source", "trap", "ulimit", "umask", "unalias", "unset", "wait",
];

/// Why a command cannot be split.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSplit {
    /// It takes a shell, for this.
    Shell(String),
    /// It would be an error in a shell too.
    Broken(&'static str),
}

/// A word, still with its variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text { text: String, quoted: bool },
    Variable { name: String, quoted: bool },
}

impl Word {
    fn push(&mut self, c: char, is_quoted: bool) {
        match self.pieces.last_mut() {
            Some(Piece::Text { text, quoted }) if *quoted == is_quoted => text.push(c),
            _ => self.pieces.push(Piece::Text { text: c.into(), quoted: is_quoted }),
        }
    }

    /// What it says, if it has neither quotes nor variables.
    fn bare(&self) -> Option<&str> {
        match &self.pieces[..] {
            [Piece::Text { text, quoted: false }] => Some(text),
            _ => None,
        }
    }

    /// Appends the words it becomes: one, or, by unquoted variables, none or several.
    fn expand(&self, value: &impl Fn(&str) -> Vec<u8>, words: &mut Vec<Vec<u8>>) {
        let mut word: Option<Vec<u8>> = None;
        for piece in &self.pieces {
            match piece {
                Piece::Text { text, .. } => word.get_or_insert_default().extend_from_slice(text.as_bytes()),
                Piece::Variable { name, quoted: true } => word.get_or_insert_default().extend(value(name)),
                Piece::Variable { name, quoted: false } => {
                    for byte in value(name) {
                        match byte {
                            b' ' | b'\t' | b'\n' => words.extend(word.take()),
                            byte => word.get_or_insert_default().push(byte),
                        }
                    }
                }
            }
        }
        words.extend(word);
    }
}

/// The words with the variables' values in them.
pub(super) fn expand(words: &[Word], value: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut expanded = Vec::new();
    for word in words {
        word.expand(&value, &mut expanded);
    }
    expanded
}

/// The words of one command; none, if there are only comments.
pub(super) fn split(command: &str) -> Result<Vec<Word>, NotSplit> {
    let mut splitter = Splitter { rest: command, words: Vec::new(), word: None, line_ended: false };
    while let Some(c) = splitter.next() {
        splitter.take(c)?;
    }
    splitter.end_word();
    if let Some(first) = splitter.words.first().and_then(Word::bare) {
        if CONTROL.contains(&first) {
            return Err(NotSplit::Shell(format!("`{first}`")));
        }
        if BUILTINS.contains(&first) {
            return Err(NotSplit::Shell(format!("its own command `{first}`")));
        }
    }
    Ok(splitter.words)
}

struct Splitter<'c> {
    rest: &'c str,
    words: Vec<Word>,
    /// The word that is being read.
    word: Option<Word>,
    /// The command was complete at the end of a line.
    line_ended: bool,
}

impl Splitter<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn next_is(&self, text: &str) -> bool {
        self.rest.starts_with(text)
    }

    /// The word that is being read, or a new one.
    fn word(&mut self) -> Result<&mut Word, NotSplit> {
        if self.line_ended {
            return Err(shell("a second command on another line"));
        }
        Ok(self.word.get_or_insert_default())
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn take(&mut self, c: char) -> Result<(), NotSplit> {
        match c {
            ' ' | '\t' => self.end_word(),
            '\n' => {
                self.end_word();
                self.line_ended = !self.words.is_empty();
            }
            '#' if self.word.is_none() => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            }
            '\\' => match self.next() {
                Some('\n') => {}
                Some(c) => self.word()?.push(c, true),
                None => self.word()?.push('\\', true),
            },
            '\'' => {
                let (text, rest) = self.rest.split_once('\'').ok_or(NotSplit::Broken("a quote is not closed"))?;
                self.rest = rest;
                self.word()?.pieces.push(Piece::Text { text: text.to_owned(), quoted: true });
            }
            '"' => self.double_quoted()?,
            '$' => self.dollar(false)?,
            '`' => return Err(shell("a command in backticks")),
            '|' if self.next_is("|") => return Err(shell("`||`")),
            '|' => return Err(shell("the pipe `|`")),
            '&' if self.next_is("&") => return Err(shell("`&&`")),
            '&' => return Err(shell("the background `&`")),
            ';' => return Err(shell("`;`")),
            '<' | '>' => return Err(shell(&format!("the redirection `{c}`"))),
            '(' | ')' => return Err(shell("`(…)`")),
            '*' | '?' => return Err(shell(&format!("the pattern `{c}` (quote it if it is none)"))),
            '[' if !self.is_test() => return Err(shell("the pattern `[…]` (quote it if it is none)")),
            '~' if self.word.is_none() => return Err(shell("`~` (`$HOME` works)")),
            '=' if self.is_assignment() => return Err(shell("setting a variable (`environment` can)")),
            c => self.word()?.push(c, false),
        }
        Ok(())
    }

    /// Whether a `[` just read is the program of this name.
    fn is_test(&self) -> bool {
        self.word.is_none() && self.words.is_empty() && self.rest.starts_with([' ', '\t'])
    }

    /// Whether a `=` just read sets a variable.
    fn is_assignment(&self) -> bool {
        self.words.is_empty() && self.word.as_ref().and_then(Word::bare).is_some_and(is_name)
    }

    fn double_quoted(&mut self) -> Result<(), NotSplit> {
        self.word()?.pieces.push(Piece::Text { text: String::new(), quoted: true });
        loop {
            match self.next().ok_or(NotSplit::Broken("a quote is not closed"))? {
                '"' => return Ok(()),
                '$' => self.dollar(true)?,
                '`' => return Err(shell("a command in backticks")),
                '\\' if self.next_is("\n") => drop(self.next()),
                '\\' if self.rest.starts_with(['$', '`', '"', '\\']) => {
                    if let Some(c) = self.next() {
                        self.word()?.push(c, true);
                    }
                }
                c => self.word()?.push(c, true),
            }
        }
    }

    /// Reads what follows a `$`.
    fn dollar(&mut self, quoted: bool) -> Result<(), NotSplit> {
        let name = match self.rest.chars().next() {
            Some('(') if self.next_is("((") => return Err(shell("the sum `$((…))`")),
            Some('(') => return Err(shell("the command in `$(…)`")),
            Some('{') => {
                let (name, rest) = self.rest[1..].split_once('}').ok_or(NotSplit::Broken("a `${` is not closed"))?;
                if !is_name(name) {
                    return Err(shell(&format!("`${{{name}}}`")));
                }
                self.rest = rest;
                name
            }
            Some('\'' | '"') if !quoted => return Err(shell("the quotes `$'…'`")),
            Some(c @ ('0'..='9' | '@' | '*' | '#' | '?' | '-' | '$' | '!')) => return Err(shell(&format!("`${c}`"))),
            _ => {
                let end = self.rest.find(|c: char| !is_name_char(c)).unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                if name.is_empty() {
                    self.word()?.push('$', quoted);
                    return Ok(());
                }
                self.rest = rest;
                name
            }
        };
        let name = name.to_owned();
        self.word()?.pieces.push(Piece::Variable { name, quoted });
        Ok(())
    }
}

fn shell(what: &str) -> NotSplit {
    NotSplit::Shell(what.to_owned())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_name_char) && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests;
