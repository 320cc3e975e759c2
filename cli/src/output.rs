//! The logs of steps that run side by side, as lines with the step's name in front.
//!
//! A thread of its own writes, so that a reader who is slow holds up the steps' logs and nothing else.

use std::io::{self, IsTerminal, Write};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// Chunks that wait for the writer; a chunk has up to 256 KiB.
const WAITING: usize = 8;

/// Of a line that has not ended yet, in bytes; then it is written in pieces.
const LONGEST_HELD: usize = 64 << 10;

/// For the steps, in turn.
const COLOURS: [&str; 6] = ["\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[31m"];
const PLAIN: &str = "\x1b[0m";

/// What is written, and by which step.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The step's log goes on.
    Log(usize, Bytes),
    /// Its log is complete.
    End(usize),
    /// A line of ours.
    Note(usize, String),
}

pub(crate) type Sender = mpsc::Sender<Piece>;

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

/// Standard output, while steps run.
#[derive(Debug)]
pub(crate) struct Output {
    sender: Sender,
    writer: JoinHandle<io::Result<()>>,
    style: Style,
}

impl Output {
    /// For steps of these names.
    pub(crate) fn start(names: Vec<String>) -> Output {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = if io::stdout().is_terminal() && !no_colour { Style::Coloured } else { Style::Plain };
        let (sender, receiver) = mpsc::channel(WAITING);
        let lines = Lines::new(&names, style);
        let writer = std::thread::spawn(move || lines.write_all(receiver, &mut io::stdout().lock()));
        Output { sender, writer, style }
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Writes what is left, then `last`. All other senders have to be gone.
    pub(crate) fn finish(self, last: &str) {
        drop(self.sender);
        // A reader who has gone away wants no more.
        if let Ok(Ok(())) = self.writer.join() {
            io::stdout().write_all(last.as_bytes()).ok();
        }
    }
}

struct Lines {
    prefixes: Vec<Vec<u8>>,
    /// The beginnings of lines, by step.
    held: Vec<Vec<u8>>,
    /// The step whose line was written in part.
    open: Option<usize>,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(names: &[String], style: Style) -> Lines {
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let prefix = |(name, colour): (&String, &&str)| match style {
            Style::Coloured => format!("{colour}{name:width$} |{PLAIN} ").into_bytes(),
            Style::Plain => format!("{name:width$} | ").into_bytes(),
        };
        Lines {
            prefixes: names.iter().zip(COLOURS.iter().cycle()).map(prefix).collect(),
            held: vec![Vec::new(); names.len()],
            open: None,
            buffer: Vec::new(),
        }
    }

    fn write_all(mut self, mut pieces: mpsc::Receiver<Piece>, to: &mut impl Write) -> io::Result<()> {
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Log(step, bytes) => self.log(step, &bytes),
                Piece::End(step) => self.end(step),
                Piece::Note(step, note) => {
                    self.end(step);
                    self.begin(step);
                    self.buffer.extend_from_slice(note.as_bytes());
                    self.close();
                }
            }
            to.write_all(&self.buffer)?;
            to.flush()?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn log(&mut self, step: usize, bytes: &[u8]) {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let ends = line.ends_with(b"\n");
            if !ends && self.held[step].len() + line.len() <= LONGEST_HELD {
                self.held[step].extend_from_slice(line);
                continue;
            }
            self.begin(step);
            self.buffer.append(&mut self.held[step]);
            self.buffer.extend_from_slice(line);
            self.open = (!ends).then_some(step);
        }
    }

    /// Writes what there is of a line that will not go on.
    fn end(&mut self, step: usize) {
        if !self.held[step].is_empty() {
            self.begin(step);
            self.buffer.append(&mut self.held[step]);
            self.open = Some(step);
        }
        if self.open == Some(step) {
            self.close();
        }
    }

    /// Goes on with the step's own line, or begins a new one.
    fn begin(&mut self, step: usize) {
        if self.open == Some(step) {
            return;
        }
        if self.open.is_some() {
            self.close();
        }
        self.buffer.extend_from_slice(&self.prefixes[step]);
        self.open = Some(step);
    }

    fn close(&mut self) {
        self.buffer.push(b'\n');
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pieces: Vec<Piece>) -> String {
        let (sender, receiver) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        drop(sender);
        let mut written = Vec::new();
        let lines = Lines::new(&["a".to_owned(), "long".to_owned()], Style::Plain);
        lines.write_all(receiver, &mut written).unwrap();
        String::from_utf8(written).unwrap()
    }

    fn log(step: usize, text: &str) -> Piece {
        Piece::Log(step, Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn lines_of_two_steps_are_never_mixed() {
        let pieces = vec![log(0, "one\ntw"), log(1, "other\n"), log(0, "o\n")];
        assert_eq!(written(pieces), "a    | one\nlong | other\na    | two\n");
    }

    #[test]
    fn a_line_without_an_end_is_written_at_the_end() {
        let pieces = vec![log(0, "last"), Piece::End(0), Piece::Note(0, "note".to_owned())];
        assert_eq!(written(pieces), "a    | last\na    | note\n");
    }

    #[test]
    fn a_very_long_line_is_written_in_pieces_and_stays_one_line() {
        let half = "x".repeat(50 << 10);
        let line = format!("a    | {}\n", half.repeat(3));
        assert_eq!(written(vec![log(0, &half), log(0, &half), log(0, &half), log(0, "\n")]), line);
    }

    #[test]
    fn a_very_long_line_gives_way_to_another_step() {
        let long = "x".repeat(LONGEST_HELD + 1);
        let pieces = vec![log(0, &long), log(1, "other\n"), log(0, "end\n")];
        assert_eq!(written(pieces), format!("a    | {long}\nlong | other\na    | end\n"));
    }
}
