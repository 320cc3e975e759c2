//! Variables in shell commands, turned into references to environment variables.
//!
//! The value of a variable never becomes part of a command's text. What stands in its place is
//! an expansion that is right in the quotes around it: `"${NAME}"` where nothing is quoted,
//! `${NAME}` inside double quotes and here-documents, `'"${NAME}"'` inside single quotes. In a
//! here-document with a quoted delimiter, where a shell expands nothing, the delimiter loses its
//! quotes and everything else in the document is escaped. Comments stay as they are.

use std::ops::Range;

use super::lexer::{Lexer, Quoting, Use};
use super::variables::Reference;

/// All references of a command, comments left out.
pub(super) fn uses(command: &str) -> Vec<Use> {
    Lexer::run(command).uses
}

/// The command with each reference replaced by an expansion of the environment variable that
/// `name` gives.
pub(super) fn rewrite(command: &str, mut name: impl FnMut(&Reference) -> String) -> String {
    let lexer = Lexer::run(command);
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for found in &lexer.uses {
        let name = name(&found.reference);
        let expansion = match found.quoting {
            Quoting::Bare => format!("\"${{{name}}}\""),
            Quoting::Single => format!("'\"${{{name}}}\"'"),
            Quoting::Ansi => format!("'\"${{{name}}}\"$'"),
            _ => format!("${{{name}}}"),
        };
        edits.push((found.reference.range.clone(), expansion));
    }
    for document in &lexer.documents {
        let place = |at: usize| lexer.uses.partition_point(|found| found.reference.range.start < at);
        let kept = &lexer.uses[place(document.body.start)..place(document.body.end)];
        if kept.is_empty() {
            continue;
        }
        edits.push((document.delimiter.clone(), document.word.clone()));
        for (offset, special) in command[document.body.clone()].match_indices(['\\', '$', '`']) {
            let at = document.body.start + offset;
            let next = kept.partition_point(|found| found.reference.range.end <= at);
            if !kept.get(next).is_some_and(|found| found.reference.range.contains(&at)) {
                edits.push((at..at + 1, format!("\\{special}")));
            }
        }
    }
    edits.sort_by_key(|edit| edit.0.start);
    let mut rewritten = String::with_capacity(command.len());
    let mut done = 0;
    for (range, text) in edits {
        rewritten.push_str(&command[done..range.start]);
        rewritten.push_str(&text);
        done = range.end;
    }
    rewritten.push_str(&command[done..]);
    rewritten
}
