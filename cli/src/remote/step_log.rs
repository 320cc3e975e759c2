//! The log of one step, every byte once, however often the connection breaks off.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{error::Error, print, server::Server, stream::Stream};
use crate::{
    exit::Problem,
    output::{Piece, Sender},
};

/// Which part of a step's log.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The run's id.
    pub(super) run: String,
    /// The step's name or id.
    pub(super) step: String,
    /// The attempt to begin with.
    pub(super) attempt: i32,
    /// Whether to stop at that attempt's end; others may follow else.
    pub(super) only: bool,
    /// Whether to wait for what is yet to come.
    pub(super) follow: bool,
}

/// Where it goes.
#[derive(Clone, Debug)]
pub(super) enum To {
    /// As it is.
    Bytes,
    /// As lines with the step's name in front; the step has that position.
    Lines(Sender, usize),
    /// As JSON, a line for each piece.
    Json,
}

/// Writes it all.
pub(super) async fn write(server: &Server, wanted: &Wanted, to: &To) -> Result<(), Problem> {
    // Text is what JSON can hold; offsets tell where bytes were none.
    let encoding = if matches!(to, To::Json) { "text" } else { "base64" };
    let query = vec![("encoding", encoding.to_owned()), ("follow", wanted.follow.to_string())];
    let path = ["runs", &wanted.run, "steps", &wanted.step, "logs"];
    let mut attempt = wanted.attempt;
    // The first byte of that attempt, whichever is the last one by the time of the answer.
    let mut stream = Stream::new(server, &path, query, Some(format!("{attempt}:0")));
    loop {
        let event = stream.next().await.map_err(Error::problem)?;
        let data: Value = serde_json::from_str(&event.data).context("the server's events cannot be read")?;
        match event.name.as_str() {
            "" => to.log(&wanted.step, attempt, &data).await?,
            "gap" => to.note(&wanted.step, attempt, "gap", &data).await?,
            "attempt" => {
                attempt = data["attempt"].as_i64().and_then(|number| number.try_into().ok()).unwrap_or(attempt);
                if wanted.only {
                    return to.end().await;
                }
                to.note(&wanted.step, attempt, "attempt", &data).await?;
            }
            "pause" => return to.end().await,
            "end" => {
                if matches!(to, To::Json) {
                    to.note(&wanted.step, attempt, "end", &data).await?;
                }
                return to.end().await;
            }
            _ => {}
        }
    }
}

impl To {
    async fn log(&self, step: &str, attempt: i32, data: &Value) -> Result<(), Problem> {
        if let Self::Json = self {
            return print::json(&with("log", step, attempt, data));
        }
        let encoded = data["base64"].as_str().context("the server is too old: its logs have no bytes")?;
        let bytes = STANDARD.decode(encoded).context("the server's events cannot be read")?;
        match self {
            Self::Lines(sender, position) => sent(sender.send(Piece::Log(*position, bytes.into())).await),
            _ => print::bytes(&bytes),
        }
    }

    async fn note(&self, step: &str, attempt: i32, what: &str, data: &Value) -> Result<(), Problem> {
        let note = match what {
            "gap" => format!("{} bytes of this log come once the step has ended", data["length"]),
            _ => format!("attempt {attempt}"),
        };
        match self {
            Self::Json => print::json(&with(what, step, attempt, data)),
            Self::Lines(sender, position) => sent(sender.send(Piece::Note(*position, format!("-- {note}"))).await),
            Self::Bytes => {
                eprintln!("buildit: {step}: {note}");
                Ok(())
            }
        }
    }

    async fn end(&self) -> Result<(), Problem> {
        match self {
            Self::Lines(sender, position) => sent(sender.send(Piece::End(*position)).await),
            _ => Ok(()),
        }
    }
}

fn with(kind: &str, step: &str, attempt: i32, data: &Value) -> Value {
    let mut line = json!({ "type": kind, "step": step, "attempt": attempt });
    if let (Some(line), Some(data)) = (line.as_object_mut(), data.as_object()) {
        line.extend(data.clone());
    }
    line
}

/// Whoever writes the lines ends when nobody reads them.
pub(super) fn sent<T>(result: Result<(), tokio::sync::mpsc::error::SendError<T>>) -> Result<(), Problem> {
    result.map_err(|_| print::written(std::io::ErrorKind::BrokenPipe.into()))
}
