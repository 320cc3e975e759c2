//! What goes to standard output. A reader who went away ends the command and is no error.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::exit::{Exit, Problem};

/// One line.
pub(super) fn line(text: &str) -> Result<(), Problem> {
    bytes(format!("{text}\n").as_bytes())
}

/// One JSON value on a line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Problem> {
    line(&serde_json::to_string(value)?)
}

/// Bytes as they are, at once.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(written)
}

/// Why nothing more can be written.
pub(super) fn written(error: io::Error) -> Problem {
    match error.kind() {
        // As with `| head`: nobody wants to hear about it.
        io::ErrorKind::BrokenPipe => std::process::exit(Exit::Success.code().into()),
        _ => anyhow::anyhow!("cannot write to standard output: {error}").into(),
    }
}

/// Columns that are as wide as they have to be, the last one as long as it is.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> Result<(), Problem> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    bytes(text.as_bytes())
}

/// Text of others for one line of a terminal: the first line, without control characters, and not too long.
pub(super) fn tame(text: &str, longest: usize) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() <= longest {
        return line;
    }
    let cut: String = line.chars().take(longest.saturating_sub(1)).collect();
    cut + "…"
}

/// Milliseconds as people say them.
pub(super) fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}

/// How long ago that was.
pub(super) fn ago(at: Timestamp) -> String {
    let seconds = Timestamp::now().as_second() - at.as_second();
    match seconds {
        ..60 => "now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_move_the_cursor() {
        assert_eq!(tame("a\x1b[2Jb\r\nnext", 10), "a[2Jb");
        assert_eq!(tame("äöüäöü", 4), "äöü…");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!([0, 840, 61_000, 3_661_000].map(duration), ["0.0 s", "0.8 s", "1:01 min", "1:01 h"]);
    }
}
