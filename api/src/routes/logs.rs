//! A step's log: live as server-sent events, followed as plain text, or by a link once it is one object.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Redirect, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use buildit_shared::{
    db::log_queries::{self, LogAttempt, LogStep},
    domain::StepStatus,
    ids::RunId,
};
use futures::{Stream, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::objects;
use crate::{
    App,
    auth::{Allowed, ProjectRead},
    error::{ApiError, ErrorBody, Result},
    extract::{Path, Query},
    logs::{Decoder, From, Piece, Reader},
    range::{self, Wanted},
};

const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: &str = "last-event-id";

/// A step of a run.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct StepPath {
    /// The run's id.
    pub(crate) run: Uuid,
    /// The step's id or name.
    pub(crate) step: String,
}

/// How to read a log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// `true` follows it to its end, `false` ends with what there is now. Without it events follow, and so does plain text.
    follow: Option<bool>,
    /// One attempt's log; without it the last one's, and those that come.
    attempt: Option<i32>,
    /// The byte to begin with.
    offset: Option<u64>,
    /// How events carry the log.
    #[serde(default)]
    encoding: Encoding,
}

/// How events carry a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    /// As `text`: bytes that are no UTF-8 are replaced.
    #[default]
    Text,
    /// As `base64`: each byte as it is.
    Base64,
}

/// A step's log. While the step is at work: server-sent events `{"offset", "text"}`, each with the byte offset behind
/// it as its id (from the second attempt on with the attempt's number before it, `2:1024`), so that `Last-Event-ID`
/// goes on where it broke off; `gap` with `offset` and `length` where the running step's log is not at hand;
/// `attempt` when the step got another attempt; `end` with the step's status, or with `?follow=false` `pause` where the
/// step is at work and this is all there is now. Once it has ended: a redirect to the stored log. With `?follow=` or `Accept: text/plain`: plain text, also by `Range`.
#[utoipa::path(get, path = "/api/v1/runs/{run}/steps/{step}/logs", tag = "steps", operation_id = "read_log",
    security(("api_key" = ["project:read"])), params(StepPath, LogParams),
    responses((status = 200, content_type = "text/event-stream", body = String),
              (status = 206, description = "the bytes of a range", content_type = "text/plain", body = String),
              (status = 307, description = "to the stored log"), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<StepPath>,
    Query(params): Query<LogParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let run = RunId::from(path.run);
    let step = log_queries::find_step(app.pool(), caller.scope(), run, &path.step)
        .await?
        .ok_or_else(|| ApiError::not_found("step", &path.step))?;
    let state = log_queries::state(app.pool(), step.id, params.attempt)
        .await?
        .ok_or_else(|| ApiError::not_found("step", &path.step))?;
    if let (Some(number), None) = (params.attempt, &state.attempt) {
        return Err(ApiError::not_found("attempt", number));
    }
    let accepts = |kind: &str| {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        accept.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case(kind))
    };
    let from =
        From { attempt: params.attempt, offset: params.offset.unwrap_or(0), later_attempts: params.attempt.is_none() };
    if accepts("text/event-stream") {
        let reader = Reader::new(&app, run, step.id, resume(from, &headers));
        return Ok(events(reader, &params));
    }
    if headers.contains_key(header::RANGE) {
        let attempt = state.attempt.ok_or_else(|| no_log(&step))?;
        return part(&app, run, &step, &attempt, &headers).await;
    }
    if params.follow.is_some() || params.offset.is_some() || accepts("text/plain") {
        let follow = params.follow.unwrap_or(true);
        return Ok(text(Reader::new(&app, run, step.id, from), follow));
    }
    let has_ended = match &state.attempt {
        Some(attempt) => attempt.is_ended() && (params.attempt.is_some() || state.step.is_ended()),
        None => state.step.is_ended(),
    };
    match state.attempt {
        _ if !has_ended => Ok(events(Reader::new(&app, run, step.id, resume(from, &headers)), &params)),
        Some(LogAttempt { object: Some(key), .. }) => {
            Ok(Redirect::temporary(&objects::link(&app, &key, None).await?).into_response())
        }
        // Its worker could not store it as one object: the chunks are kept.
        Some(attempt) if attempt.length > 0 => Ok(text(Reader::new(&app, run, step.id, from), true)),
        _ => Err(no_log(&step)),
    }
}

fn no_log(step: &LogStep) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_log", format!("step `{}` never began, so it has no log", step.name))
}

/// Where `Last-Event-ID` says that the reader stands.
fn resume(from: From, headers: &HeaderMap) -> From {
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let Some(last) = last else { return from };
    let (attempt, offset) = last.split_once(':').unwrap_or(("1", last));
    match (attempt.parse(), offset.parse()) {
        (Ok(attempt), Ok(offset)) if from.attempt.is_none_or(|asked| asked == attempt) => {
            From { attempt: Some(attempt), offset, ..from }
        }
        _ => from,
    }
}

fn event_id(attempt: i32, offset: u64) -> String {
    if attempt == 1 { offset.to_string() } else { format!("{attempt}:{offset}") }
}

/// What the stream of events knows between two of them.
struct Events {
    reader: Reader,
    /// `None`: bytes are sent as they are.
    decoder: Option<Decoder>,
    follow: bool,
    attempt: i32,
    /// Where the next byte is expected.
    offset: u64,
    /// The last event was sent.
    ended: bool,
}

fn events(reader: Reader, params: &LogParams) -> Response {
    let from = reader.from();
    let state = Events {
        reader,
        decoder: (params.encoding == Encoding::Text).then(Decoder::default),
        follow: params.follow.unwrap_or(true),
        attempt: from.attempt.unwrap_or(1),
        offset: from.offset,
        ended: false,
    };
    let events = stream::unfold(state, |mut state| async move {
        match state.next().await {
            Ok(Some(events)) => Some((stream::iter(events.into_iter().map(Ok::<_, Infallible>)), state)),
            // The reader comes back by itself and goes on behind the last event.
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(%error, "a log's stream broke off");
                None
            }
        }
    });
    let events = futures::StreamExt::flatten(events);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    unbuffered(&mut response);
    response
}

impl Events {
    /// The next events; `None` after the last ones.
    async fn next(&mut self) -> Result<Option<Vec<Event>>> {
        while !self.ended {
            let mut events = Vec::new();
            let piece = if self.follow { self.reader.follow().await? } else { self.reader.read().await? };
            match piece {
                Piece::Bytes { attempt, start, bytes } => {
                    if attempt != self.attempt || start != self.offset {
                        events.extend(self.flush()?);
                        (self.attempt, self.offset) = (attempt, start);
                    }
                    let begins = self.offset - self.held();
                    self.offset += bytes.len() as u64;
                    match &mut self.decoder {
                        Some(decoder) => {
                            let text = decoder.push(&bytes);
                            events.extend(self.text(begins, &text)?);
                        }
                        None => events.push(self.log("base64", begins, STANDARD.encode(&bytes))?),
                    }
                }
                Piece::Gap { attempt, start, length } => {
                    events.extend(self.flush()?);
                    (self.attempt, self.offset) = (attempt, start + length);
                    let event = Event::default().event("gap").id(event_id(attempt, self.offset));
                    let gap = json!({ "offset": start, "length": length });
                    events.push(event.json_data(gap).map_err(ApiError::internal)?);
                }
                Piece::Attempt(number) => {
                    events.extend(self.flush()?);
                    (self.attempt, self.offset) = (number, 0);
                    let event = Event::default().event("attempt").id(event_id(number, 0));
                    events.push(event.json_data(json!({ "attempt": number })).map_err(ApiError::internal)?);
                }
                Piece::End(status) => {
                    events.extend(self.flush()?);
                    self.ended = true;
                    events.push(self.end(status)?);
                }
                Piece::Pause => {
                    events.extend(self.flush()?);
                    self.ended = true;
                    let event = Event::default().event("pause").id(event_id(self.attempt, self.offset));
                    events.push(event.json_data(json!({})).map_err(ApiError::internal)?);
                }
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
        Ok(None)
    }

    /// What was held back, when its other half will not come.
    fn flush(&mut self) -> Result<Option<Event>> {
        let begins = self.offset - self.held();
        let text = self.decoder.as_mut().map(Decoder::finish).unwrap_or_default();
        self.text(begins, &text)
    }

    fn text(&self, begins: u64, text: &str) -> Result<Option<Event>> {
        if text.is_empty() {
            return Ok(None);
        }
        self.log("text", begins, text.to_owned()).map(Some)
    }

    fn log(&self, encoding: &str, begins: u64, log: String) -> Result<Event> {
        let event = Event::default().id(event_id(self.attempt, self.offset - self.held()));
        event.json_data(json!({ "offset": begins, encoding: log })).map_err(ApiError::internal)
    }

    /// Bytes that wait for the rest of their character.
    fn held(&self) -> u64 {
        self.decoder.as_ref().map_or(0, Decoder::held)
    }

    fn end(&self, status: Option<StepStatus>) -> Result<Event> {
        let event = Event::default().event("end").id(event_id(self.attempt, self.offset));
        event.json_data(json!({ "status": status })).map_err(ApiError::internal)
    }
}

fn text(reader: Reader, follow: bool) -> Response {
    let mut response = plain(StatusCode::OK, Body::from_stream(bytes(reader, follow)));
    unbuffered(&mut response);
    response
}

/// The log's bytes; to its end, or as far as it is stored.
fn bytes(reader: Reader, follow: bool) -> impl Stream<Item = Result<bytes::Bytes>> + Send {
    stream::try_unfold(reader, move |mut reader| async move {
        loop {
            let piece = if follow { reader.follow().await? } else { reader.read().await? };
            match piece {
                Piece::Bytes { bytes, .. } => return Ok(Some((bytes, reader))),
                Piece::Gap { length, .. } => {
                    let mark = format!("\n[buildit: {length} bytes of this log are shown once the step has ended]\n");
                    return Ok(Some((mark.into(), reader)));
                }
                Piece::Attempt(_) => {}
                Piece::End(_) | Piece::Pause => return Ok(None),
            }
        }
    })
}

/// The same as far as it is stored, with blanks for gaps, so that each byte is where it belongs.
fn bytes_in_place(reader: Reader) -> impl Stream<Item = Result<bytes::Bytes>> + Send {
    const BLANKS: &[u8] = &[b' '; 4096];
    stream::try_unfold((reader, 0), move |(mut reader, mut blanks)| async move {
        loop {
            if blanks > 0 {
                let next = usize::try_from(blanks).unwrap_or(usize::MAX).min(BLANKS.len());
                return Ok(Some((bytes::Bytes::from_static(&BLANKS[..next]), (reader, blanks - next as u64))));
            }
            match reader.read().await? {
                Piece::Bytes { bytes, .. } => return Ok(Some((bytes, (reader, 0)))),
                Piece::Gap { length, .. } => blanks = length,
                Piece::Attempt(_) => {}
                Piece::End(_) | Piece::Pause => return Ok(None),
            }
        }
    })
}

/// A range of the attempt's bytes that are stored by now.
async fn part(app: &App, run: RunId, step: &LogStep, attempt: &LogAttempt, headers: &HeaderMap) -> Result<Response> {
    let length = match &attempt.object {
        Some(key) => app.storage().size(key).await?,
        None => u64::try_from(attempt.length).unwrap_or(0),
    };
    let part = match Wanted::of(headers, length) {
        Wanted::Part(part) => part,
        Wanted::Whole => 0..length,
        Wanted::Nothing => return Ok(range::unsatisfiable(length)),
    };
    let from = From { attempt: Some(attempt.number), offset: part.start, later_attempts: false };
    let reader = Reader::new(app, run, step.id, from);
    let mut left = part.end - part.start;
    let bytes = bytes_in_place(reader).map_ok(move |mut bytes| {
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= bytes.len() as u64;
        bytes
    });
    let bytes = bytes.try_take_while(|bytes| std::future::ready(Ok(!bytes.is_empty())));
    let total = if attempt.is_ended() { length.to_string() } else { "*".into() };
    let content_range = format!("bytes {}-{}/{total}", part.start, part.end.saturating_sub(1));
    let mut response = plain(StatusCode::PARTIAL_CONTENT, Body::from_stream(bytes));
    response.headers_mut().insert(header::CONTENT_RANGE, range::value(content_range)?);
    response.headers_mut().insert(header::CONTENT_LENGTH, (part.end - part.start).into());
    Ok(response)
}

fn plain(status: StatusCode, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::ACCEPT_RANGES, "bytes"),
    ];
    (status, headers, body).into_response()
}

/// Asks proxies to pass on each piece at once.
fn unbuffered(response: &mut Response) {
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
}
