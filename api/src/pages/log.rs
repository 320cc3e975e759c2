//! What the viewer of a log needs beside its bytes: where lines and commands begin, and where a text is found.
//!
//! Both read the log once from its begin, in bounded memory. What an ended attempt answers stays true, so browsers keep it.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use buildit_shared::{
    db::{
        log_queries::{self, LogAttempt},
        overviews,
        step_queries::Attempt,
    },
    ids::{RunId, StepId},
};
use serde::{Deserialize, Serialize};

use super::run::{StepPath, Which};
use crate::{
    App,
    auth::{Allowed, ProjectRead},
    error::{ApiError, Result},
    extract::{Json, Path, Query},
    logs::{From, Piece, Reader},
};

/// A block of lines ends after so many, or after so many bytes.
const BLOCK_LINES: u64 = 500;
const BLOCK_BYTES: u64 = 64 * 1024;
/// Bytes of one line that are looked at.
const LINE: usize = 64 * 1024;
/// How many places a search names.
const FOUND: usize = 5000;
/// Bytes from which the last lines are taken, and how many lines.
const TAIL: u64 = 4096;
const TAIL_LINES: usize = 5;

/// Where things are in a log.
#[derive(Serialize)]
pub(super) struct Index {
    /// Bytes of the lines that are counted here: what follows is read from there.
    bytes: u64,
    lines: u64,
    /// Nothing more comes.
    ended: bool,
    /// The byte and the line that each block begins with.
    blocks: Vec<(u64, u64)>,
    /// The lines that commands begin with.
    commands: Vec<u64>,
    /// Which command is the next one to come.
    next: usize,
    /// When lines were printed: from which line on, and milliseconds since the epoch.
    times: Vec<(u64, i64)>,
    /// When the last command ended, once it has.
    finished: Option<i64>,
    /// What the server's clock says, in milliseconds since the epoch.
    now: i64,
}

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

#[derive(Serialize)]
pub(super) struct Found {
    total: u64,
    /// The first of them, numbered from 0.
    lines: Vec<u64>,
}

/// What the echo of each command begins with.
pub(super) fn first_lines(commands: &[String]) -> Vec<String> {
    commands.iter().map(|command| command.trim_end().lines().next().unwrap_or_default().to_owned()).collect()
}

/// `GET /runs/{run}/steps/{step}/log/index?attempt=`
pub(super) async fn index(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<StepPath>,
    Query(which): Query<Which>,
) -> Result<Response> {
    let (step, attempt) = find(&app, &caller, &path, which).await?;
    let commands = first_lines(&overviews::commands(app.pool(), step).await?);
    let ended = attempt.is_ended();
    let mut times = log_queries::times(app.pool(), attempt.id).await?;
    let finished = if ended { times.pop().map(|(_, ms)| ms) } else { None };
    let mut times = times.into_iter().peekable();
    let mut index = Index {
        bytes: 0,
        lines: 0,
        ended,
        blocks: Vec::new(),
        commands: Vec::new(),
        next: 0,
        times: Vec::new(),
        finished,
        now: jiff::Timestamp::now().as_millisecond(),
    };
    let (mut in_block, mut block) = (0, 0);
    each_line(&app, path.run.into(), step, &attempt, |line| {
        if in_block == 0 {
            index.blocks.push((index.bytes, index.lines));
            block = index.bytes;
        }
        if let Some(text) = line.text.strip_prefix(b"$ ") {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if let Some(at) = commands[index.next..].iter().position(|command| command.as_bytes() == text) {
                index.commands.push(index.lines);
                index.next += at + 1;
            }
        }
        // The last of those that came before the line, or with it.
        while let Some((_, ms)) = times.next_if(|(byte, _)| *byte <= index.bytes) {
            index.times.pop_if(|(noted, _)| *noted == index.lines);
            index.times.push((index.lines, ms));
        }
        index.bytes += line.length;
        index.lines += 1;
        in_block = if in_block + 1 >= BLOCK_LINES || index.bytes - block >= BLOCK_BYTES { 0 } else { in_block + 1 };
    })
    .await?;
    Ok(answer(Json(index), ended))
}

/// `GET /runs/{run}/steps/{step}/log/search?attempt=&q=`: the lines that have this text in them, in either case.
pub(super) async fn search(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<StepPath>,
    Query(which): Query<Which>,
    Query(search): Query<Search>,
) -> Result<Response> {
    let (step, attempt) = find(&app, &caller, &path, which).await?;
    let wanted = search.q.to_lowercase();
    let mut found = Found { total: 0, lines: Vec::new() };
    if wanted.is_empty() {
        return Ok(answer(Json(found), false));
    }
    let mut number = 0;
    each_line(&app, path.run.into(), step, &attempt, |line| {
        let text = String::from_utf8_lossy(line.text);
        let text = if text.contains('\u{1b}') { without_escapes(&text) } else { text.into_owned() };
        if text.to_lowercase().contains(&wanted) {
            found.total += 1;
            if found.lines.len() < FOUND {
                found.lines.push(number);
            }
        }
        number += 1;
    })
    .await?;
    Ok(answer(Json(found), attempt.is_ended()))
}

fn answer(body: impl IntoResponse, for_good: bool) -> Response {
    let mut response = body.into_response();
    let keep = if for_good { "private, max-age=600" } else { "no-store" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    response
}

async fn find(app: &App, caller: &Allowed<ProjectRead>, path: &StepPath, which: Which) -> Result<(StepId, LogAttempt)> {
    let no_step = || ApiError::not_found("step", &path.step);
    let step =
        log_queries::find_step(app.pool(), caller.scope(), path.run.into(), &path.step).await?.ok_or_else(no_step)?;
    let state = log_queries::state(app.pool(), step.id, which.attempt).await?.ok_or_else(no_step)?;
    Ok((step.id, state.attempt.ok_or_else(|| ApiError::not_found("attempt", which.attempt.unwrap_or(1)))?))
}

/// A line, without its end.
struct Line<'a> {
    /// Its first 64 kB.
    text: &'a [u8],
    /// All its bytes, the end included.
    length: u64,
}

/// All lines of an attempt's log that are stored; the one that has not ended only if nothing more will come.
async fn each_line(
    app: &App,
    run: RunId,
    step: StepId,
    attempt: &LogAttempt,
    mut does: impl FnMut(Line<'_>),
) -> Result<()> {
    let from = From { attempt: Some(attempt.number), offset: 0, later_attempts: false };
    let mut reader = Reader::new(app, run, step, from);
    let (mut held, mut length): (Vec<u8>, u64) = (Vec::new(), 0);
    loop {
        let bytes = match reader.read().await? {
            Piece::Bytes { bytes, .. } => bytes,
            // Blanks of the line that goes on behind it, as for who reads by ranges.
            Piece::Gap { length: gap, .. } => {
                length += gap;
                continue;
            }
            Piece::Attempt(_) => continue,
            Piece::End(_) | Piece::Pause => break,
        };
        let mut rest = &bytes[..];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let part = &rest[..end];
            length += end as u64 + 1;
            if held.is_empty() {
                does(Line { text: &part[..end.min(LINE)], length });
            } else {
                held.extend_from_slice(&part[..end.min(LINE - held.len())]);
                does(Line { text: &held, length });
                held.clear();
            }
            length = 0;
            rest = &rest[end + 1..];
        }
        length += rest.len() as u64;
        held.extend_from_slice(&rest[..rest.len().min(LINE - held.len())]);
    }
    if length > 0 && attempt.is_ended() {
        does(Line { text: &held, length });
    }
    Ok(())
}

/// The text without what only terminals read.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        match rest.next() {
            Some('[') => while rest.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
            Some(']') => while rest.next().is_some_and(|c| c != '\u{7}' && c != '\\') {},
            _ => {}
        }
    }
    plain
}

/// The last lines that say something; empty where the log cannot be read.
pub(super) async fn last_lines(app: &App, run: RunId, step: StepId, attempt: &Attempt) -> String {
    let length = match &attempt.log_ref {
        Some(key) => app.storage().size(key).await.unwrap_or(0),
        None => u64::try_from(attempt.log_len).unwrap_or(0),
    };
    let offset = length.saturating_sub(TAIL);
    let from = From { attempt: Some(attempt.number), offset, later_attempts: false };
    let mut reader = Reader::new(app, run, step, from);
    let mut tail = Vec::new();
    loop {
        match reader.read().await {
            Ok(Piece::Bytes { bytes, .. }) => tail.extend_from_slice(&bytes),
            Ok(Piece::Gap { .. }) => tail.push(b'\n'),
            Ok(Piece::Attempt(_) | Piece::End(_) | Piece::Pause) | Err(_) => break,
        }
    }
    let text = without_escapes(&String::from_utf8_lossy(&tail));
    // The first one may have lost its begin.
    let lines = text.lines().skip(usize::from(offset > 0));
    let lines: Vec<&str> = lines
        .map(|line| line.trim_end().rsplit('\r').next().unwrap_or_default())
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_loses_what_terminals_read() {
        assert_eq!(
            without_escapes("\u{1b}[1;31mred\u{1b}[0m \u{1b}]8;;http://a\u{7}link\u{1b}]8;;\u{7}!"),
            "red link!"
        );
        assert_eq!(without_escapes("broken \u{1b}[31"), "broken ");
    }

    #[test]
    fn an_echo_begins_with_the_first_line_of_its_command() {
        let commands = ["make\n".to_owned(), "for i in 1 2; do\n  echo $i\ndone".to_owned()];
        assert_eq!(first_lines(&commands), ["make", "for i in 1 2; do"]);
    }
}
