//! `buildit validate`: a pipeline file, and everything that is wrong with it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context;
use buildit_shared::pipeline::{self, Diagnostic};
use serde_json::json;

use crate::arguments::{Format, Validate};
use crate::exit::{Exit, Problem};

pub(crate) fn run(arguments: &Validate) -> Result<Exit, Problem> {
    let (name, content) = if arguments.file == Path::new("-") {
        ("<stdin>".to_owned(), bounded(io::stdin().lock()))
    } else {
        let name = arguments.file.display().to_string();
        let content = File::open(&arguments.file).and_then(bounded);
        (name, content)
    };
    let content = content.with_context(|| format!("cannot read {name}"))?;
    let found = pipeline::parse_bytes(&name, &content).err().unwrap_or_default();
    let text = match arguments.format {
        Format::Text => text(&name, &found),
        Format::Json => json(&name, &found),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if found.is_empty() { Exit::Success } else { Exit::Failure })
}

/// One byte more than a pipeline file may have is enough to refuse it.
fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    source.take(pipeline::MOST_BYTES as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn text(name: &str, found: &[Diagnostic]) -> String {
    match found.len() {
        0 => format!("{name}: valid\n"),
        1 => format!("{}\n{name}: 1 problem\n", pipeline::render(found)),
        count => format!("{}\n{name}: {count} problems\n", pipeline::render(found)),
    }
}

fn json(name: &str, found: &[Diagnostic]) -> String {
    let answer = json!({ "file": name, "valid": found.is_empty(), "diagnostics": found });
    format!("{answer}\n")
}
